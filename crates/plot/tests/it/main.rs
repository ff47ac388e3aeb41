//! Reports from directories as the verbs leave them.

mod made_up;
mod measured;
mod orthogonality;
mod report;
mod svg;
