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
    /// A thread could not be started.
    #[error("cannot start a worker thread")]
    Worker {
        /// The operating system's own words.
        source: std::io::Error,
    },
}
