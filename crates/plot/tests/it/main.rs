//! Reports from directories as the verbs leave them.

mod made_up;
mod report;
