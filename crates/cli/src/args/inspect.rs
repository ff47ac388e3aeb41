//! The arguments of `xgraft inspect`.

use std::path::PathBuf;

/// List the tensors and layouts of a directory, and everything in it that contradicts something else.
///
/// Reads headers only, and directories that no other verb opens. Exits 1 when something is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The checkpoint.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// List each tensor, not one line for those that differ in their layer only.
    #[arg(long)]
    pub(crate) all: bool,
}
