//! What stands in the way of a comparison.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of a comparison.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A checkpoint or an adapter cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] xgraft_checkpoint::Error),
    /// One adapter and no noise: there is nothing to compare it with.
    #[error("expected a noise or a second adapter to compare the adapter with, found neither")]
    NothingToCompare,
    /// Two noises of one name, which no row could tell apart.
    #[error("two noises are called {label}")]
    SameLabel {
        /// The name.
        label: String,
    },
    /// One directory as both sides of a noise.
    #[error(
        "{}: expected an original and its quantized copy, found this directory on both sides",
        dir.display()
    )]
    SameDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// The quantized checkpoint stands where the original belongs.
    #[error(
        "{}={}: expected ORIGINAL=QUANTIZED, found them swapped: the first {why}",
        original.display(), quantized.display()
    )]
    Swapped {
        /// What is said to be the original.
        original: PathBuf,
        /// What is said to be its quantized copy.
        quantized: PathBuf,
        /// What gives it away.
        why: String,
    },
    /// The original and the quantized checkpoint, or those of two noises, are of different models.
    #[error(
        "{}: {field} is {found}, expected {expected} as in {}",
        file.display(), reference.display()
    )]
    ConfigMismatch {
        /// The field.
        field: &'static str,
        /// Its value in the reference.
        expected: String,
        /// The reference's file.
        reference: PathBuf,
        /// Its value in the other checkpoint.
        found: String,
        /// The other checkpoint's file.
        file: PathBuf,
    },
    /// A weight has another shape than the adapter's pair makes.
    #[error(
        "{}: module {module} has shape {found:?}, expected {expected:?} as the pair in {} makes",
        dir.display(), adapter.display()
    )]
    Shape {
        /// The module.
        module: String,
        /// Shape of B·A.
        expected: [usize; 2],
        /// The adapter's directory.
        adapter: PathBuf,
        /// Shape of the weight, or of the other adapter's pair.
        found: Vec<usize>,
        /// Where that is.
        dir: PathBuf,
    },
    /// An adapter module that a checkpoint does not have.
    #[error(
        "{}: expected module {module}, which the adapter {} changes, found no such weight ({count} of the adapter's modules are missing)",
        dir.display(), adapter.display()
    )]
    UnknownModule {
        /// The first such module.
        module: String,
        /// How many there are.
        count: usize,
        /// The adapter's directory.
        adapter: PathBuf,
        /// The checkpoint's directory.
        dir: PathBuf,
    },
    /// An adapter that changes no linear layer.
    #[error("{}: expected LoRA pairs of linear layers, found none", adapter.display())]
    NoLinear {
        /// The adapter's directory.
        adapter: PathBuf,
    },
    /// Two adapters without a module in common.
    #[error(
        "{}: expected a module of {}, such as {module}, found none of them",
        second.display(), first.display()
    )]
    NothingInCommon {
        /// The first adapter's directory.
        first: PathBuf,
        /// One of its modules.
        module: String,
        /// The second adapter's directory.
        second: PathBuf,
    },
    /// A product or decomposition failed: numbers that are not finite, or beyond the range of f32.
    #[error("cannot decompose {what} of {module}")]
    LowRank {
        /// The matrix: `the adapter's pair`, `the noise`.
        what: &'static str,
        /// The module.
        module: String,
        /// Why.
        #[source]
        source: xgraft_low_rank::Error,
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
            Self::NothingToCompare => "give --noise ORIGINAL=QUANTIZED, or --adapter a second time",
            Self::SameDirectory { .. } => {
                "without a second directory there is no noise: quantize the checkpoint first"
            }
            Self::Swapped { .. } => "change the two sides of --noise; N is dequantized − original",
            Self::SameLabel { .. } => "give each noise another pair of directories",
            Self::ConfigMismatch { .. } => {
                "a noise is a checkpoint and its own quantized copy, and all noises are of one architecture"
            }
            Self::Shape { .. } | Self::UnknownModule { .. } => {
                "the adapter was made for another model: take the one of this base"
            }
            Self::NothingInCommon { .. } => "compare two adapters of one base model",
            Self::LowRank { .. } => {
                "weights or factors that are broken cannot be compared: find the cause first"
            }
            Self::NoLinear { .. } | Self::Interrupted => return None,
        })
    }

    /// Names the matrix that a decomposition was of.
    pub(crate) fn low_rank(
        what: &'static str,
        module: &str,
    ) -> impl FnOnce(xgraft_low_rank::Error) -> Self {
        let module = module.to_owned();
        move |source| match source {
            xgraft_low_rank::Error::Interrupted => Self::Interrupted,
            source => Self::LowRank {
                what,
                module,
                source,
            },
        }
    }
}
