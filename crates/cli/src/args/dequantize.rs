//! The arguments of `xgraft dequantize`.

use super::{Overwrite, Pool, ShardArgs};
use std::path::PathBuf;

/// Turn a quantized checkpoint back into BF16.
#[derive(Debug, clap::Args)]
pub(crate) struct Dequantize {
    /// The quantized checkpoint.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The checkpoint before it was quantized: channel scales that AWQ or SmoothQuant has moved from the norms into
    /// the weights are moved back. Only its norms are read.
    #[arg(long, value_name = "DIR")]
    pub(crate) reference: Option<PathBuf>,
    /// Where the BF16 checkpoint goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) shards: ShardArgs,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}
