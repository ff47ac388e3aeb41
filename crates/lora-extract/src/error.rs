//! What can go wrong in an extraction or a check.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of extraction and verification.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint or an adapter cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] xgraft_checkpoint::Error),
    /// The adapter is no plain LoRA.
    #[error(transparent)]
    Adapter(#[from] xgraft_adapter_sanitize::Error),
    /// The factorization of a module failed.
    #[error("cannot factorize the delta of {module}")]
    LowRank {
        /// The module.
        module: String,
        /// Why.
        #[source]
        source: xgraft_low_rank::Error,
    },
    /// The two configs are of different models.
    #[error(
        "{}: {field} is {found}, expected {expected} as in {}",
        tuned.display(), base.display()
    )]
    ConfigMismatch {
        /// The field.
        field: &'static str,
        /// Value in the base.
        expected: String,
        /// The base's file.
        base: PathBuf,
        /// Value in the tuned checkpoint.
        found: String,
        /// The tuned checkpoint's file.
        tuned: PathBuf,
    },
    /// The same tensor has different shapes.
    #[error(
        "{}: {tensor} has shape {found:?}, expected {expected:?} as in {}",
        tuned.display(), base.display()
    )]
    ShapeMismatch {
        /// The tensor.
        tensor: String,
        /// Shape in the base.
        expected: Vec<usize>,
        /// The base's file.
        base: PathBuf,
        /// Shape in the tuned checkpoint.
        found: Vec<usize>,
        /// The tuned checkpoint's file.
        tuned: PathBuf,
    },
    /// A linear layer that only one side has.
    #[error(
        "{tensor} is in {present_in} but not in {absent_from} ({count} linear layers have no counterpart)"
    )]
    MissingModule {
        /// The first such tensor.
        tensor: String,
        /// How many there are.
        count: usize,
        /// Where it is.
        present_in: PathBuf,
        /// Where it is not.
        absent_from: PathBuf,
    },
    /// No linear layer in common.
    #[error("no linear layer to extract from {base} and {tuned}")]
    NothingToExtract {
        /// The base directory.
        base: PathBuf,
        /// The tuned directory.
        tuned: PathBuf,
    },
    /// The two checkpoints hold equal weights.
    #[error("the linear layers of {base} and {tuned} are equal: there is no delta to extract")]
    NoDelta {
        /// The base directory.
        base: PathBuf,
        /// The tuned directory.
        tuned: PathBuf,
    },
    /// A value of the configuration makes no sense.
    #[error("{field} is {found}, expected {expected}")]
    InvalidConfig {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Too much of the update would be dropped.
    #[error(
        "{share:.1} % of the update's energy would be dropped, more than the {limit:.1} % of --max-dropped"
    )]
    TooMuchDropped {
        /// Dropped share in percent.
        share: f64,
        /// The limit in percent.
        limit: f64,
        /// What was found.
        findings: Vec<xgraft_results::Finding>,
    },
    /// The budget buys no rank at all.
    #[error("a budget of {budget} bytes buys no rank: the cheapest costs {cheapest} bytes")]
    BudgetTooSmall {
        /// Bytes allowed.
        budget: u64,
        /// Bytes of the cheapest single rank.
        cheapest: u64,
    },
    /// An adapter module that the checkpoints do not have.
    #[error("adapter module {module} is not a linear layer or embedding of {base}")]
    UnknownModule {
        /// The module.
        module: String,
        /// The base directory.
        base: PathBuf,
    },
    /// An adapter pair whose shape does not fit the weight.
    #[error(
        "adapter module {module}: the pair makes a {found:?} matrix, the weight is {expected:?}"
    )]
    AdapterShape {
        /// The module.
        module: String,
        /// Shape of the weight.
        expected: [usize; 2],
        /// Shape of B·A.
        found: [usize; 2],
    },
    /// Weights or factors with NaN or infinity.
    #[error("{tensor} holds NaN or infinity, so its delta cannot be measured")]
    NotFinite {
        /// The tensor or module.
        tensor: String,
    },
    /// Unfinished work of an earlier run that cannot be read.
    #[error("cannot use {path} of an interrupted run: {reason}")]
    BadPartial {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} a file of the work directory")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The cause, which names the file.
        #[source]
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether the same command may go on from the work that is on disk.
    #[must_use]
    pub fn can_be_resumed(&self) -> bool {
        match self {
            Self::Interrupted | Self::Io { .. } | Self::TooMuchDropped { .. } => true,
            Self::Checkpoint(error) => matches!(
                error,
                xgraft_checkpoint::Error::Io { .. } | xgraft_checkpoint::Error::DiskFull { .. }
            ),
            _ => false,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Checkpoint(error) => return error.hint(),
            Self::Adapter(error) => return error.hint(),
            Self::ConfigMismatch { .. }
            | Self::ShapeMismatch { .. }
            | Self::MissingModule { .. } => {
                "--base must be the very checkpoint that --tuned was fine-tuned from"
            }
            Self::NoDelta { .. } => {
                "check that --base and --tuned are not the same directory or the same model"
            }
            Self::TooMuchDropped { .. } => {
                "raise --max-dropped knowingly to go on from the finished work; or start afresh (--force) with --embeddings or --policy peft, which keep more"
            }
            Self::BadPartial { .. } => "start afresh with --force",
            Self::Interrupted => "run the same command again to go on from here",
            Self::LowRank { .. } | Self::NotFinite { .. } => {
                "a checkpoint with broken weights cannot be extracted; find the cause first"
            }
            Self::UnknownModule { .. } | Self::AdapterShape { .. } => {
                "the adapter was made for another model"
            }
            _ => return None,
        })
    }
}
