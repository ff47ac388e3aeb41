//! The arguments of `xgraft plan`.

use super::values::parse_bytes;
use std::path::PathBuf;

/// Say what a checkpoint, its adapters and its sequences take of a GPU, for every format.
///
/// Bytes of tensors are exact, from the headers; what an engine takes beside them (CUDA graphs, activations, workspaces)
/// is what `--utilization` leaves free.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The checkpoint.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The rank of an adapter that is served, once for each.
    #[arg(long, value_name = "R")]
    pub(crate) adapter: Vec<usize>,
    /// Tokens of a sequence.
    #[arg(long, value_name = "N", default_value_t = 32768)]
    pub(crate) context: u64,
    /// Sequences at a time.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) sequences: u64,
    /// Memory of the GPU.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "80GiB")]
    pub(crate) gpu: u64,
    /// The share of it that the engine may use for weights, adapters and cache.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub(crate) utilization: f64,
}
