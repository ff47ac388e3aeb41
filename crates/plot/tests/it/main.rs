//! Reports from directories as the verbs leave them.

mod made_up;
mod orthogonality;
mod report;
