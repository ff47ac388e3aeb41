//! Why a balancer could not start.

use std::path::PathBuf;

use crate::config::ConfigError;

/// What went wrong before the first request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be meant.
    #[error("the balancer's configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The list of backends cannot be read.
    #[error("cannot read the list of backends {}", .path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// The operating system's own words.
        source: std::io::Error,
    },
    /// There is nobody in the list of backends.
    #[error("the list of backends {} is empty; expected at least one line http://HOST:PORT", .path.display())]
    EmptyList {
        /// The file.
        path: PathBuf,
    },
    /// The list of backends may not be all of it.
    #[error("the list of backends {} ends within a line, as if it were not all written; end its last line", .path.display())]
    CutList {
        /// The file.
        path: PathBuf,
    },
    /// A thread could not be started.
    #[error("cannot start a worker thread")]
    Worker {
        /// The operating system's own words.
        source: std::io::Error,
    },
}
