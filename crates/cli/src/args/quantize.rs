//! The arguments of `xgraft quantize`.

use super::{Overwrite, Pool, ShardArgs};
use clap::ValueEnum;
use std::path::PathBuf;

/// Quantize a checkpoint.
///
/// Linear layers only; embeddings, the head and norms stay as they are. Works tensor by tensor in
/// strips, and resumes.
#[derive(Debug, clap::Args)]
pub(crate) struct Quantize {
    /// The checkpoint.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where the quantized checkpoint goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The number format and its scales.
    #[arg(long, value_enum)]
    pub(crate) scheme: SchemeArg,
    /// How the files name, pack and configure it [default: `hf` for fp8-block, `compressed-tensors` for the others that
    /// engines read, else `simulated`].
    #[arg(long, value_enum)]
    pub(crate) layout: Option<LayoutArg>,
    /// Element type of the scales of layout `hf` [default: f32].
    #[arg(long, value_enum)]
    pub(crate) scale_dtype: Option<ScaleArg>,
    /// Elements of a group of int4, int3 or int2.
    #[arg(long, value_name = "N")]
    pub(crate) group_size: Option<usize>,
    /// Integers with a zero point for each group.
    #[arg(long)]
    pub(crate) asymmetric: bool,
    /// Multiply input channels that matter before rounding, and divide what comes before them, as AWQ does; int4, int3 or int2;
    /// needs --stats.
    #[arg(long)]
    pub(crate) awq: bool,
    /// What `xgraft calibrate stats` recorded of this checkpoint: the report then says what the layers' outputs lose.
    #[arg(long, value_name = "STATS")]
    pub(crate) stats: Option<PathBuf>,
    /// How scales are chosen.
    #[arg(long, value_enum, default_value_t = SearchArg::Amax)]
    pub(crate) search: SearchArg,
    /// The checkpoint that this one was fine-tuned from: reports what is left of the delta, and is needed by
    /// `--search delta`.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,
    /// Modules that stay as they are: a name, a run of its components, or a regular expression after `re:`.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) keep: Vec<String>,
    #[command(flatten)]
    pub(crate) shards: ShardArgs,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SchemeArg {
    /// E4M3 codes with one scale for each 128 × 128 block.
    Fp8Block,
    /// E4M3 codes with one scale a row.
    Fp8Channel,
    /// E4M3 codes with one scale a weight, activations dynamic.
    Fp8Tensor,
    /// E4M3 with one scale a weight and one fixed scale for its input; needs --stats.
    Fp8TensorStatic,
    /// 8-bit integers with one scale a row.
    Int8,
    /// 4-bit integers in groups of 128.
    Int4,
    /// 3-bit integers in groups of 128; simulated.
    Int3,
    /// 2-bit integers in groups of 32; simulated.
    Int2,
    /// 4-bit NormalFloat in groups of 64, as bitsandbytes stores it.
    Nf4,
    /// E2M1 in groups of 32 with power-of-two scales; simulated.
    Mxfp4,
    /// E2M1 in groups of 16 with E4M3 scales; simulated.
    Nvfp4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SearchArg {
    /// The scale spans the block.
    Amax,
    /// The least squared error.
    Mse,
    /// The largest cosine of what is left of the fine-tune; needs --base.
    Delta,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutArg {
    /// `weight_scale_inv`, `quant_method: fp8`: Qwen's and DeepSeek's own files.
    Hf,
    /// As llm-compressor writes, byte for byte.
    CompressedTensors,
    /// INT4 words in AutoAWQ's order; the file says `rtn` of itself.
    AwqOrder,
    /// INT4 words in GPTQ's order; the file says `rtn` of itself.
    GptqOrder,
    /// NF4 as bitsandbytes writes it, byte for byte, without double quantization.
    #[value(name = "bitsandbytes")]
    BitsAndBytes,
    /// The values of the format in BF16, for experiments.
    Simulated,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ScaleArg {
    F32,
    Bf16,
}
