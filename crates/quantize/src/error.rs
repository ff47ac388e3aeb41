//! What can go wrong while a checkpoint is converted.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of quantizing and dequantizing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] xgraft_checkpoint::Error),
    /// A weight cannot be quantized.
    #[error("cannot quantize {tensor}")]
    Quantize {
        /// The tensor.
        tensor: String,
        /// Why, with row and column.
        #[source]
        source: xgraft_block_scale::Error,
    },
    /// The checkpoint is quantized already.
    #[error("{dir} is quantized already ({layout})")]
    AlreadyQuantized {
        /// The checkpoint.
        dir: PathBuf,
        /// Its layout.
        layout: String,
    },
    /// The checkpoint is not quantized.
    #[error("{dir} is not quantized: it holds no FP8 weights")]
    NotQuantized {
        /// The checkpoint.
        dir: PathBuf,
    },
    /// A layout that compressed-tensors does not write.
    #[error("layout compressed-tensors stores BF16 scales, found {found}")]
    ScaleDtype {
        /// What was asked for.
        found: String,
    },
    /// No linear layer.
    #[error("{dir} has no linear layer to quantize")]
    NothingToQuantize {
        /// The checkpoint.
        dir: PathBuf,
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
            Self::Checkpoint(error) => return error.hint(),
            Self::AlreadyQuantized { .. } => {
                "run `xgraft dequantize` first, or start from the BF16 checkpoint"
            }
            Self::ScaleDtype { .. } => "use --scale-dtype bf16, or --layout hf",
            Self::Quantize { .. } => {
                "a checkpoint with broken weights cannot be quantized; find the cause first"
            }
            Self::Interrupted => "run the same command again to go on from here",
            _ => return None,
        })
    }
}
