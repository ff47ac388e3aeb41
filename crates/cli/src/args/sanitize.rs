//! The arguments of `xgraft sanitize`.

use super::{Overwrite, PolicyArg, Pool};
use std::path::PathBuf;

/// Bring an adapter to the rules of a serving engine.
///
/// Reads adapters of PEFT, mergekit and xgraft. What the policy does not allow is dropped and
/// listed with its share of the update's energy; the original is left as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Sanitize {
    /// The adapter.
    #[arg(value_name = "ADAPTER")]
    pub(crate) adapter: PathBuf,
    /// Where the sanitized adapter goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Its base: checks shapes, and measures full-rank tensors.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,
    /// Whose loader must accept the adapter.
    #[arg(long, value_enum, default_value_t = PolicyArg::Vllm)]
    pub(crate) policy: PolicyArg,
    /// Keep LoRA pairs of `embed_tokens` and `lm_head`.
    #[arg(long)]
    pub(crate) embeddings: bool,
    /// Fail when more than this share of the update's energy is dropped.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub(crate) max_dropped: f64,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}
