//! What can go wrong while an adapter is folded in.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of merging.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint or an adapter cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] xgraft_checkpoint::Error),
    /// The adapter is no plain LoRA.
    #[error(transparent)]
    Adapter(#[from] xgraft_adapter_sanitize::Error),
    /// A merged weight cannot be stored in the base's format.
    #[error("cannot quantize {tensor} after the adapter was added")]
    Quantize {
        /// The tensor.
        tensor: String,
        /// Why, with row and column.
        #[source]
        source: xgraft_block_scale::Error,
    },
    /// An adapter module that the base does not have.
    #[error("adapter module {module} is not a weight of {base}")]
    UnknownModule {
        /// The module.
        module: String,
        /// The base directory.
        base: PathBuf,
    },
    /// A pair whose shape does not fit the weight.
    #[error(
        "adapter module {module}: the pair makes a {found:?} matrix, the weight is {expected:?}"
    )]
    Shape {
        /// The module.
        module: String,
        /// Shape of the weight.
        expected: [usize; 2],
        /// Shape of B·A.
        found: [usize; 2],
    },
    /// An adapter for one of two tied weights.
    #[error("the adapter changes {module}, which {base} ties to another weight")]
    Tied {
        /// The module.
        module: String,
        /// The base directory.
        base: PathBuf,
    },
    /// A tensor that is to take the place of one of another shape, such as a table with extra vocabulary rows.
    #[error("adapter tensor {tensor} is {found:?}, the weight that it replaces is {expected:?}")]
    WholeShape {
        /// The tensor.
        tensor: String,
        /// Shape of the weight.
        expected: Vec<usize>,
        /// Shape of the tensor.
        found: Vec<usize>,
    },
    /// A tensor whose meaning is not known, or one that changes a weight a second time.
    #[error(
        "adapter tensor {tensor} is neither half of a LoRA pair nor the only new value of a weight"
    )]
    Unclear {
        /// The tensor.
        tensor: String,
    },
    /// Integers whose columns were sorted into groups by activations that are not known here.
    #[error(
        "{tensor} has its columns sorted into groups, and merging would need the activations they were sorted by"
    )]
    Sorted {
        /// The tensor.
        tensor: String,
    },
    /// Factors with NaN or infinity.
    #[error("adapter module {module} holds NaN or infinity")]
    NotFinite {
        /// The module.
        module: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether the same command may go on from the work that is on disk.
    #[must_use]
    pub fn can_be_resumed(&self) -> bool {
        use xgraft_checkpoint::Error::{DiskFull, Io};
        matches!(
            self,
            Self::Interrupted | Self::Checkpoint(Io { .. } | DiskFull { .. })
        )
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Checkpoint(error) => return error.hint(),
            Self::Adapter(error) => return error.hint(),
            Self::UnknownModule { .. } | Self::Shape { .. } | Self::WholeShape { .. } => {
                "the adapter was made for another model"
            }
            Self::Sorted { .. } => "run `xgraft dequantize` on the base, and merge into that",
            Self::Unclear { .. } => "run `xgraft sanitize` on it first",
            Self::Tied { .. } => "untie the embeddings of the base first",
            Self::Interrupted => "run the same command again to go on from here",
            _ => return None,
        })
    }
}
