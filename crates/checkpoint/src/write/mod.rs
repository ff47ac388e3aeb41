//! Writing: into a directory beside the final one, in order, resumable, and there all at once.

pub(crate) mod atomic;
pub(crate) mod file;
pub(crate) mod grouped;
pub(crate) mod journal;
pub(crate) mod output;
pub(crate) mod plan;
pub(crate) mod side_files;
pub(crate) mod writer;
