//! The arguments of `xgraft verify`.

use super::{Overwrite, Pool, Random};
use std::path::PathBuf;

/// Recompute how near base + adapter comes to the tuned checkpoint.
///
/// Exits 1 when a module's pair has a flipped sign, a wrong scale, or nothing to do with the delta.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The checkpoint that the adapter will be served on.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: PathBuf,
    /// The fine-tuned checkpoint.
    #[arg(long, value_name = "DIR")]
    pub(crate) tuned: PathBuf,
    /// The adapter.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: PathBuf,
    /// The base before it was quantized: also reports quantization noise over the fine-tune, and how much of the
    /// fine-tune is served.
    #[arg(long, value_name = "DIR")]
    pub(crate) original: Option<PathBuf>,
    /// Also write the report to a directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Compute the optimum of each rank from all singular values in f64 (slow, exact).
    #[arg(long, conflicts_with = "no_optimum")]
    pub(crate) exact: bool,
    /// Do not compute the optimum.
    #[arg(long)]
    pub(crate) no_optimum: bool,
    /// Fail when a module's ‖W_base + BA − W_tuned‖/‖W_tuned‖ is above this.
    #[arg(long, value_name = "SHARE")]
    pub(crate) max_error: Option<f64>,
    /// Fail when more than this share of the energy of tuned − base is in tensors that the adapter
    /// does not change.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub(crate) max_uncovered: f64,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
    #[command(flatten)]
    pub(crate) random: Random,
}
