//! Why a model or an adapter cannot be computed with.

use std::path::PathBuf;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with a model or an adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory cannot be read, or contradicts itself.
    #[error(transparent)]
    Checkpoint(#[from] xgraft_checkpoint::Error),
    /// The configuration asks for something that this decoder does not do.
    #[error("{}: `{field}`: expected {expected}, found {found}", .file.display())]
    Config {
        /// The configuration file.
        file: PathBuf,
        /// The field, with dots for nesting.
        field: String,
        /// What is understood.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A weight is missing or has another shape than the configuration says.
    #[error("{}: `{module}`: expected {expected}, found {found}", .dir.display())]
    Weight {
        /// The model's directory.
        dir: PathBuf,
        /// The module.
        module: String,
        /// What the configuration asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An adapter that this model cannot run.
    #[error("{}: `{entry}`: expected {expected}, found {found}", .dir.display())]
    Adapter {
        /// The adapter's directory.
        dir: PathBuf,
        /// The module, tensor or field.
        entry: String,
        /// What this model takes.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The operating system gave no threads.
    #[error("could not start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The system's words.
        reason: String,
    },
}
