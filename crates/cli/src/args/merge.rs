//! The arguments of `xgraft merge`.

use super::{Overwrite, Pool, ShardArgs};
use std::path::PathBuf;

/// Fold an adapter into a checkpoint, in the checkpoint's own format.
///
/// A quantized weight is dequantized, added to, and quantized again: never added to as codes.
#[derive(Debug, clap::Args)]
pub(crate) struct Merge {
    /// The checkpoint.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: PathBuf,
    /// The adapter.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: PathBuf,
    /// Where the merged checkpoint goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) shards: ShardArgs,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}
