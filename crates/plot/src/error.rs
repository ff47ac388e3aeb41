//! What can go wrong on the way from rows to a report.

use std::{io, path::PathBuf};

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A source has none of the files that a report is made of.
    #[error("{}: expected rows.jsonl, findings.jsonl or manifest.json, found none", dir.display())]
    NothingToRead {
        /// The directory.
        dir: PathBuf,
    },
    /// A source's records cannot be read.
    #[error("cannot read the records of {}", dir.display())]
    Records {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: xgraft_results::Error,
    },
    /// A figure cannot be drawn.
    #[error("cannot draw figure {figure}: {message}")]
    Draw {
        /// The figure's name.
        figure: String,
        /// What the drawing library says.
        message: String,
    },
    /// A file of the report cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The result of making a report.
pub type Result<T, E = Error> = std::result::Result<T, E>;
