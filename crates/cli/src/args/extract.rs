//! The arguments of `xgraft extract`.

use super::values::parse_bytes;
use super::{Overwrite, PolicyArg, Pool, Random};
use clap::ValueEnum;
use std::path::PathBuf;

/// Turn the difference of two checkpoints into a LoRA adapter.
///
/// ΔW = `W_tuned` − `W_base` of every linear layer, truncated by SVD. The base may be BF16, F16, F32
/// or FP8; with a quantized base the adapter also corrects the rounding of the base (Method B).
/// Stopped work is resumed by the same command.
#[derive(Debug, clap::Args)]
pub(crate) struct Extract {
    /// The checkpoint that was fine-tuned.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: PathBuf,
    /// The fine-tuned checkpoint.
    #[arg(long, value_name = "DIR")]
    pub(crate) tuned: PathBuf,
    /// Where the adapter goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) rank: RankArgs,
    /// The most that --energy, --noise-edge and --budget give a module.
    #[arg(long, value_name = "R", default_value_t = xgraft_lora_extract::MAX_RANK)]
    pub(crate) max_rank: usize,
    /// Whose loader must accept the adapter.
    #[arg(long, value_enum, default_value_t = PolicyArg::Vllm)]
    pub(crate) policy: PolicyArg,
    /// Also adapt `embed_tokens` and `lm_head`.
    #[arg(long)]
    pub(crate) embeddings: bool,
    /// Fail when more than this share of the update's energy is dropped by the policy.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub(crate) max_dropped: f64,
    /// Element type of the stored factors.
    #[arg(long, value_enum, default_value_t = DtypeArg::Bf16)]
    pub(crate) dtype: DtypeArg,
    /// Stop when the last Krylov block gained less than this share of the kept energy.
    #[arg(long, value_name = "SHARE")]
    pub(crate) tolerance: Option<f64>,
    /// What `base_model_name_or_path` of the adapter says; the base directory's name by default.
    #[arg(long, value_name = "NAME")]
    pub(crate) base_name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
    #[command(flatten)]
    pub(crate) random: Random,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct RankArgs {
    /// The same rank everywhere [default: 64].
    #[arg(long, value_name = "R")]
    pub(crate) rank: Option<usize>,
    /// Per module, the rank that keeps this share of ‖ΔW‖².
    #[arg(long, value_name = "SHARE")]
    pub(crate) energy: Option<f64>,
    /// Per module, the singular values above the tuned checkpoint's own rounding noise.
    #[arg(long)]
    pub(crate) noise_edge: bool,
    /// This many bytes of adapter in all, spread where they keep the most energy (`500MB`, `2GiB`).
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) budget: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DtypeArg {
    Bf16,
    F16,
    F32,
}
