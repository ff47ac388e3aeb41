//! When an adapter cannot be sanitized.

use std::path::PathBuf;

use xgraft_results::Finding;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of sanitizing. Bad content is no error but a finding, unless nothing useful is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The adapter or its base cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] xgraft_checkpoint::Error),
    /// The adapter is of a kind that cannot be expressed as plain LoRA.
    #[error("{adapter}: adapter_config.json: {field} is {found}, expected {expected}")]
    Unsupported {
        /// The adapter.
        adapter: PathBuf,
        /// The field of its configuration.
        field: &'static str,
        /// What plain LoRA has there.
        expected: &'static str,
        /// What it has.
        found: String,
    },
    /// A pair that does not fit its base.
    #[error("{module}: the pair makes a {found:?} matrix, the base's weight is {expected:?}")]
    Shape {
        /// The module.
        module: String,
        /// Shape of the base's weight.
        expected: Vec<usize>,
        /// Shape of B·A.
        found: [usize; 2],
    },
    /// A module that the base does not have.
    #[error("{module} is not a module of {base}")]
    UnknownModule {
        /// The module.
        module: String,
        /// The base.
        base: PathBuf,
    },
    /// A factor with NaN or infinity.
    #[error("{module}: its factors hold NaN or infinity")]
    NotFinite {
        /// The module.
        module: String,
    },
    /// A rank that the engine does not serve.
    #[error("{module} has rank {found}, the largest that policy {policy} allows is {limit}")]
    RankTooLarge {
        /// The module.
        module: String,
        /// Its rank.
        found: usize,
        /// The limit.
        limit: usize,
        /// The policy.
        policy: &'static str,
    },
    /// Nothing is left.
    #[error("no LoRA pair of {adapter} is left under policy {policy}")]
    NothingLeft {
        /// The adapter.
        adapter: PathBuf,
        /// The policy.
        policy: &'static str,
    },
    /// Too much of the update is dropped.
    #[error(
        "{share:.1} % of the update's energy is dropped, more than the {limit:.1} % of --max-dropped"
    )]
    TooMuchDropped {
        /// Dropped share in percent.
        share: f64,
        /// The limit in percent.
        limit: f64,
        /// What was found.
        findings: Vec<Finding>,
    },
}

impl Error {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Checkpoint(error) => return error.hint(),
            Self::Unsupported { .. } => {
                "merge it into its base with the tool that made it, and extract a plain LoRA with `xgraft extract`"
            }
            Self::Shape { .. } | Self::UnknownModule { .. } => {
                "pass the base that the adapter was made for"
            }
            Self::RankTooLarge { .. } => "extract it again with a smaller --rank",
            Self::TooMuchDropped { .. } => {
                "keep embeddings with --embeddings, or raise --max-dropped knowingly"
            }
            _ => return None,
        })
    }

    /// The findings up to the error, where there are some.
    #[must_use]
    pub fn findings(&self) -> Option<&[Finding]> {
        match self {
            Self::TooMuchDropped { findings, .. } => Some(findings),
            _ => None,
        }
    }
}
