//! The arguments of `xgraft autopsy`.

use super::{Overwrite, Pool};
use std::path::PathBuf;

/// Look at every number of a checkpoint, and say which tensors are sick.
///
/// Exploded, flat, biased, mis-scaled, mis-decoded, not finite: judged by blocks of 128 × 128, so
/// that a fault in one of them is found. Strict with --reference, generous without. Exits 1 when
/// any tensor is sick.
#[derive(Debug, clap::Args)]
pub(crate) struct Autopsy {
    /// The checkpoint.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The checkpoint that it was converted from, in any format.
    #[arg(long, value_name = "DIR")]
    pub(crate) reference: Option<PathBuf>,
    /// Also write the report to a directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Change a limit, such as `linear.block_ratio_max=30`; role `all` for every role, `inf` for no
    /// limit. --json prints those in force.
    #[arg(long = "threshold", value_name = "ROLE.FIELD=VALUE")]
    pub(crate) thresholds: Vec<String>,
    /// List healthy tensors too.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}
