//! Why there is no sandbox.

use std::path::PathBuf;

/// Why programs cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A folder or process could not be made.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The interpreter is no Python 3.
    #[error("{}: expected Python 3, found {found}", path.display())]
    Python {
        /// The interpreter.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// The launcher ended before the interpreter was ready.
    #[error("the sandbox does not start: {said}")]
    Start {
        /// Its last words.
        said: String,
    },
}

impl SandboxError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Start { said } if said.contains("Landlock") => Some(
                "the sandbox needs a kernel with Landlock (5.13 or later); --sandbox off runs programs with all your rights",
            ),
            Self::Io {
                action: "start", ..
            }
            | Self::Python { .. } => Some("name an interpreter with --python"),
            _ => None,
        }
    }
}
