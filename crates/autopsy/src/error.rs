//! What can keep an autopsy from being made. What it finds in the weights is no error.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of looking at a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] xgraft_checkpoint::Error),
    /// A threshold that is not of the form `role.field=value`, or of an unknown role or field.
    #[error("threshold `{text}`: expected {expected}, found {found}")]
    Threshold {
        /// What was given.
        text: String,
        /// What is understood.
        expected: String,
        /// Which part of it is not.
        found: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Checkpoint(
                error @ (xgraft_checkpoint::Error::Missing { .. }
                | xgraft_checkpoint::Error::Io { .. }
                | xgraft_checkpoint::Error::UnsupportedLayout { .. }),
            ) => return error.hint(),
            Self::Checkpoint(_) => {
                "run `xgraft inspect` on the directory: it lists everything that is wrong with its files"
            }
            Self::Threshold { .. } => {
                "`xgraft autopsy DIR --json` prints every role, field and value in force"
            }
            Self::Interrupted => return None,
        })
    }
}
