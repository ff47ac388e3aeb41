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
    #[error("{dir} is not quantized: its weights are not codes")]
    NotQuantized {
        /// The checkpoint.
        dir: PathBuf,
    },
    /// A type of scales that the layout does not have.
    #[error("layout hf stores F32 or BF16 scales, found {found}")]
    ScaleDtype {
        /// What was asked for.
        found: String,
    },
    /// A scheme that a layout does not have.
    #[error("layout {layout} cannot store scheme {scheme}")]
    Combination {
        /// The scheme.
        scheme: &'static str,
        /// The layout.
        layout: &'static str,
        /// The layout that can.
        usual: &'static str,
    },
    /// An option that a scheme does not have.
    #[error("{option}: scheme {scheme} has no such choice: {why}")]
    Option {
        /// The option.
        option: &'static str,
        /// The scheme.
        scheme: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A pattern that is no regular expression.
    #[error("--keep {pattern}: expected a regular expression after `re:`: {why}")]
    KeepPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A pattern that matches no module.
    #[error("--keep {pattern}: {} has no such module; its first linear layer is {example}", dir.display())]
    KeepsNothing {
        /// The checkpoint.
        dir: PathBuf,
        /// The pattern.
        pattern: String,
        /// The first linear layer's module.
        example: String,
    },
    /// A group without elements.
    #[error("--group-size: expected at least 1, found 0")]
    EmptyGroup,
    /// Columns that groups do not divide.
    #[error(
        "{tensor} has {columns} columns, expected a multiple of the group size {group} (--group-size); the largest below it that divides them is {fits}"
    )]
    GroupSize {
        /// The tensor.
        tensor: String,
        /// Its columns.
        columns: usize,
        /// The elements of a group.
        group: usize,
        /// The largest smaller size that divides the columns.
        fits: usize,
    },
    /// Columns that the groups of a format do not divide, and no option changes their size.
    #[error(
        "{tensor} has {columns} columns, expected a multiple of {group}, the group size of {scheme}"
    )]
    FixedGroup {
        /// The tensor.
        tensor: String,
        /// Its columns.
        columns: usize,
        /// The elements of a group.
        group: usize,
        /// The scheme.
        scheme: &'static str,
    },
    /// Rows or columns that words of several codes do not divide.
    #[error("{tensor} has {len} {what}, expected a multiple of {by}, the codes in a word")]
    Indivisible {
        /// The tensor.
        tensor: String,
        /// `rows` or `columns`.
        what: &'static str,
        /// How many there are.
        len: usize,
        /// What must divide them.
        by: usize,
    },
    /// The search for the delta's cosine without a base.
    #[error("search `delta` compares with the checkpoint that was fine-tuned, and none is given")]
    NeedsBase,
    /// Activation statistics are needed, and there are none.
    #[error("{what} needs activation statistics, and none are given")]
    NeedsStats {
        /// What needs them.
        what: &'static str,
    },
    /// Activation statistics that are not of this checkpoint, or say too little.
    #[error("activation statistics: {entry}: expected {expected}, found {found}")]
    Stats {
        /// The module or tensor.
        entry: String,
        /// What this checkpoint needs.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A base that is not the one of this checkpoint.
    #[error("{}: {tensor} is {}, expected {expected:?}", base.display(), found.as_ref().map_or_else(|| "missing".to_owned(), |f| format!("{f:?}")))]
    Base {
        /// The base directory.
        base: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape in the checkpoint to be quantized.
        expected: Vec<usize>,
        /// Its shape in the base, if it has it.
        found: Option<Vec<usize>>,
    },
    /// Another checkpoint that is of another model.
    #[error("{}: {field} is {found}, expected {expected}", file.display())]
    OtherModel {
        /// The other's `config.json`.
        file: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value in the checkpoint to be converted.
        expected: String,
        /// Its value in the other.
        found: String,
    },
    /// A reference that is not the checkpoint before it was quantized.
    #[error("{}: {tensor}: expected {expected}, found {found}", reference.display())]
    Reference {
        /// The reference directory.
        reference: PathBuf,
        /// The norm.
        tensor: String,
        /// What the quantized checkpoint asks for.
        expected: String,
        /// What the reference has.
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
            Self::AlreadyQuantized { .. } => {
                "run `xgraft dequantize` first, or start from the BF16 checkpoint"
            }
            Self::ScaleDtype { .. } => "use --scale-dtype f32 or bf16",
            Self::Combination { usual, .. } => match *usual {
                "simulated" => "use --layout simulated: no engine reads this format",
                "bitsandbytes" => "use --layout bitsandbytes, or simulated",
                _ => "use --layout compressed-tensors",
            },
            Self::Option { .. } => "leave the option out, or choose another scheme",
            Self::KeepPattern { .. } => {
                "the syntax is Rust's, without look-around and back-references; quote it for the shell"
            }
            Self::KeepsNothing { .. } => {
                "a name must be a run of whole components, such as `mlp.down_proj`, and `re:` matches from the start of the module: \
                 `xgraft inspect` lists them"
            }
            Self::EmptyGroup => {
                "leave --group-size out for the usual 128, or give one that divides the columns of every layer"
            }
            Self::GroupSize { .. } => {
                "choose a --group-size that divides the columns of every layer, or leave the module out with --keep"
            }
            Self::FixedGroup { .. } => "leave the module out with --keep",
            Self::Indivisible { .. } => {
                "use --layout compressed-tensors, whose last word may be partly filled, or leave the module out with --keep"
            }
            Self::NeedsBase => "pass --base",
            Self::NeedsStats { .. } => {
                "pass --stats with what `xgraft calibrate stats` made of this very checkpoint"
            }
            Self::Stats { .. } => {
                "run `xgraft calibrate stats` on the checkpoint that is quantized, with more samples if there were too few tokens"
            }
            Self::Base { .. } => "--base must be the checkpoint that this one was fine-tuned from",
            Self::OtherModel { .. } => {
                "--base and --reference must be checkpoints of the very model that is converted"
            }
            Self::Reference { .. } => {
                "--reference must be the checkpoint that was quantized into this one"
            }
            Self::Quantize { .. } => {
                "a checkpoint with broken weights cannot be quantized; find the cause first"
            }
            Self::Interrupted => "run the same command again to go on from here",
            _ => return None,
        })
    }
}
