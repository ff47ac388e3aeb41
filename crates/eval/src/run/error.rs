//! Why a run cannot begin, or cannot go on.

use std::path::{Path, PathBuf};

use crate::client::ClientError;
use crate::sandbox::SandboxError;
use crate::task::TaskError;

/// Why a run cannot begin, or cannot go on. What is done is in its folder, and another start goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The folder holds another run.
    #[error("{}: the folder holds another run: `{field}` is {found} there, expected {expected}", path.display())]
    OtherRun {
        /// The plan of the run.
        path: PathBuf,
        /// Where they differ.
        field: String,
        /// What was asked for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A line of a log is damaged.
    #[error("{at}: expected an event of a run")]
    Event {
        /// File and line.
        at: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// Something cannot be written as JSON.
    #[error("cannot encode an event")]
    Encode {
        /// The cause.
        source: serde_json::Error,
    },
    /// The log cannot be written any more.
    #[error("the log {} cannot be written", path.display())]
    LogEnded {
        /// The log.
        path: PathBuf,
    },
    /// A row cannot be read or written.
    #[error(transparent)]
    Row(#[from] xgraft_dataset::Error),
    /// A question has no task, or the tasks cannot be read.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The endpoint will answer no question.
    #[error("the endpoint refuses the questions")]
    Refused {
        /// What it says.
        source: ClientError,
    },
    /// The endpoint fails for every question.
    #[error("{count} questions in a row have failed at the endpoint; the last one: {error}")]
    Down {
        /// Questions.
        count: usize,
        /// The last failure.
        error: String,
    },
    /// Programs cannot be run.
    #[error("programs cannot be run")]
    Sandbox(#[from] SandboxError),
}

impl RunError {
    pub(crate) fn io(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::OtherRun { .. } => Some("give another --out, or ask for the run that is there"),
            Self::Down { .. } => Some(
                "see that the endpoint runs and takes such requests, then the same command: what is done stays done",
            ),
            Self::Refused {
                source: ClientError::Status { status, .. },
            } if matches!(status.as_u16(), 401 | 403) => {
                Some("put the key into the environment, and name its variable with --api-key-env")
            }
            Self::Sandbox(error) => error.hint(),
            _ => None,
        }
    }
}
