//! The arguments of every verb.

mod balance;
mod fleet;

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use xgraft_adapter_sanitize::Policy;

pub(crate) use self::balance::Balance;
pub(crate) use self::fleet::{Diagnose, Fleet};

/// Move a domain fine-tune onto a quantized base, and prove how good the transfer is.
#[derive(Debug, Parser)]
#[command(
    name = "xgraft",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb understands.
#[derive(Debug, ClapArgs)]
pub(crate) struct Global {
    /// Replace an output directory that exists, and discard unfinished work of another configuration.
    #[arg(long, global = true)]
    pub(crate) force: bool,
    /// Worker threads; all cores by default. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = parse_threads)]
    pub(crate) threads: Option<usize>,
    /// Seed of everything random.
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print the report as JSON on stdout.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more to stderr (-v, -vv, -vvv).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Turn the difference of two checkpoints into a LoRA adapter.
    Extract(Extract),
    /// Recompute how near base + adapter comes to the tuned checkpoint.
    Verify(Verify),
    /// Bring an adapter to the rules of a serving engine.
    Sanitize(Sanitize),
    /// Quantize a checkpoint.
    Quantize(Quantize),
    /// Turn a quantized checkpoint back into BF16.
    Dequantize(Dequantize),
    /// Say what a checkpoint, its adapters and its sequences take of a GPU, for every format.
    Plan(Plan),
    /// Measure how quantization noise lies to an adapter, and two adapters to each other.
    Orthogonality(Orthogonality),
    /// Fold an adapter into a checkpoint, in the checkpoint's own format.
    Merge(Merge),
    /// List the tensors and layouts of a directory, and everything in it that contradicts something else.
    Inspect(Inspect),
    /// Look at every number of a checkpoint, and say which tensors are sick.
    Autopsy(Autopsy),
    /// Serve a model and its adapters over HTTP, as the API of OpenAI.
    Serve(Serve),
    /// Put one address before several OpenAI-compatible servers, and lose nothing when one of them dies.
    Balance(Balance),
    /// Start several servers and the balancer before them, and keep them alive.
    Fleet(Fleet),
    /// Say what a person asks when a fleet does not work.
    Diagnose(Diagnose),
    /// Write the model card of something that xgraft made, from its manifest.
    Card(Card),
    /// Make one HTML and Markdown report of the rows of several steps.
    Report(Report),
}

/// Turn the difference of two checkpoints into a LoRA adapter.
///
/// ΔW = `W_tuned` − `W_base` of every linear layer, truncated by SVD. The base may be BF16, F16, F32
/// or FP8; with a quantized base the adapter also corrects the rounding of the base (Method B).
/// Stopped work is resumed by the same command.
#[derive(Debug, ClapArgs)]
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
}

#[derive(Debug, ClapArgs)]
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

/// Recompute how near base + adapter comes to the tuned checkpoint.
///
/// Exits 1 when a module's pair has a flipped sign, a wrong scale, or nothing to do with the delta.
#[derive(Debug, ClapArgs)]
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
}

/// Bring an adapter to the rules of a serving engine.
///
/// Reads adapters of PEFT, mergekit and xgraft. What the policy does not allow is dropped and
/// listed with its share of the update's energy; the original is left as it is.
#[derive(Debug, ClapArgs)]
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
}

/// Quantize a checkpoint.
///
/// Linear layers only; embeddings, the head and norms stay as they are. Works tensor by tensor in
/// strips, and resumes.
#[derive(Debug, ClapArgs)]
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
}

/// Turn a quantized checkpoint back into BF16.
#[derive(Debug, ClapArgs)]
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
}

/// Say what a checkpoint, its adapters and its sequences take of a GPU, for every format.
///
/// Bytes of tensors are exact, from the headers; what an engine takes beside them (CUDA graphs, activations, workspaces)
/// is what `--utilization` leaves free.
#[derive(Debug, ClapArgs)]
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

/// Measure how quantization noise lies to an adapter, and two adapters to each other.
///
/// The noise of a layer is N = dequantized − original, always with this sign; the adapter's update is
/// L = s·B·A. Every number stands beside what chance gives for it, and beside controls. A cosine at
/// chance level proves nothing by itself: any two unrelated matrices of that size have it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Orthogonality {
    /// A checkpoint and its quantized copy, or that copy dequantized. May be given several times, for
    /// different models too: every two noises are compared.
    #[arg(long = "noise", value_name = "ORIGINAL=QUANTIZED", value_parser = parse_noise)]
    pub(crate) noises: Vec<NoiseArg>,
    /// The adapter; a second one is compared with the first.
    #[arg(long = "adapter", value_name = "DIR", required = true)]
    pub(crate) adapters: Vec<PathBuf>,
    /// Also write the report to a directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// The directories of a noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoiseArg {
    pub(crate) original: PathBuf,
    pub(crate) quantized: PathBuf,
}

/// Fold an adapter into a checkpoint, in the checkpoint's own format.
///
/// A quantized weight is dequantized, added to, and quantized again: never added to as codes.
#[derive(Debug, ClapArgs)]
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
}

/// List the tensors and layouts of a directory, and everything in it that contradicts something else.
///
/// Reads headers only, and directories that no other verb opens. Exits 1 when something is wrong.
#[derive(Debug, ClapArgs)]
pub(crate) struct Inspect {
    /// The checkpoint.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// List each tensor, not one line for those that differ in their layer only.
    #[arg(long)]
    pub(crate) all: bool,
}

/// Look at every number of a checkpoint, and say which tensors are sick.
///
/// Exploded, flat, biased, mis-scaled, mis-decoded, not finite: judged by blocks of 128 × 128, so
/// that a fault in one of them is found. Strict with --reference, generous without. Exits 1 when
/// any tensor is sick.
#[derive(Debug, ClapArgs)]
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
}

/// Write the model card of something that xgraft made, from its manifest.
///
/// `README.md` in the directory itself, with the metadata that the hub reads. It says what the manifest and the report
/// prove, and nothing of accuracy.
#[derive(Debug, ClapArgs)]
pub(crate) struct Card {
    /// The adapter or checkpoint.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The base model's name on the hub; that of `adapter_config.json` by default.
    #[arg(long, value_name = "NAME")]
    pub(crate) base_model: Option<String>,
    /// The heading; the directory's name by default.
    #[arg(long)]
    pub(crate) title: Option<String>,
}

/// Make one HTML and Markdown report of the rows of several steps.
#[derive(Debug, ClapArgs)]
pub(crate) struct Report {
    /// Output directories of other verbs, as `DIR` or `LABEL=DIR`.
    #[arg(value_name = "DIR", required_unless_present = "totals")]
    pub(crate) inputs: Vec<String>,
    /// The same, of which only the totals over all modules are read: for many arms beside each other.
    #[arg(long, value_name = "DIR")]
    pub(crate) totals: Vec<String>,
    /// Where the report goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Title of the report.
    #[arg(long, default_value = "xgraft report")]
    pub(crate) title: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ShardArgs {
    /// The most bytes of tensors in one file.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "5GB")]
    pub(crate) max_shard_size: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PolicyArg {
    /// vLLM's LoRA loader.
    Vllm,
    /// Hugging Face PEFT.
    Peft,
    /// xgraft's own server.
    Xgraft,
}

impl From<PolicyArg> for Policy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Vllm => Self::Vllm,
            PolicyArg::Peft => Self::Peft,
            PolicyArg::Xgraft => Self::Xgraft,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DtypeArg {
    Bf16,
    F16,
    F32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SchemeArg {
    /// E4M3 codes with one scale for each 128 × 128 block.
    Fp8Block,
    /// E4M3 codes with one scale a row.
    Fp8Channel,
    /// E4M3 codes with one scale a weight, activations dynamic.
    Fp8Tensor,
    /// E4M3 with one scale a weight and fixed activation scales: needs calibration, refused.
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

/// Serve a model and its adapters over HTTP, as the API of OpenAI.
///
/// Binds to the loopback address unless --host says otherwise. Ctrl-C or SIGTERM lets running requests end.
#[derive(Debug, ClapArgs)]
pub(crate) struct Serve {
    /// The model: BF16, FP8, INT8 or 4-bit weights, tokenizer.json, and a chat template.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// An adapter and the name by which requests ask for it.
    #[arg(long, value_name = "NAME=DIR", value_parser = crate::verbs::serve::parse_lora)]
    pub(crate) lora: Vec<(String, PathBuf)>,
    /// Lets requests load adapters from below this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) lora_root: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// The port; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) port: u16,
    /// A key that requests must carry, once for each. The environment keeps it out of the process list.
    #[arg(
        long,
        value_name = "KEY",
        env = "XGRAFT_API_KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: Vec<String>,
    /// A key for loading and unloading adapters, in place of the others.
    #[arg(
        long,
        value_name = "KEY",
        env = "XGRAFT_ADMIN_KEY",
        hide_env_values = true
    )]
    pub(crate) admin_key: Vec<String>,
    /// The model's name in requests and answers; the directory's by default.
    #[arg(long, value_name = "NAME")]
    pub(crate) served_model_name: Vec<String>,
    /// Tokens of a prompt and its output together.
    #[arg(long, value_name = "N")]
    pub(crate) max_model_len: Option<usize>,
    /// Sequences that are computed at once.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) max_num_seqs: usize,
    /// Tokens that are computed in one step; a running stream waits at most so long for a prompt.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) max_step_tokens: usize,
    /// Requests that may wait; more are answered with 429.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) max_waiting: usize,
    /// Memory for keys and values, taken from the system as it is used.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "2GiB")]
    pub(crate) kv_memory: u64,
    /// The type of stored keys and values.
    #[arg(long, value_enum, default_value_t = KvArg::Bf16)]
    pub(crate) kv_dtype: KvArg,
    /// Logprobs of a token that a request may ask for; -1 allows the whole vocabulary.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        allow_hyphen_values = true
    )]
    pub(crate) max_logprobs: i64,
    /// Computes every prompt anew.
    #[arg(long)]
    pub(crate) no_prefix_cache: bool,
}

/// The type of stored keys and values.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KvArg {
    /// As serving engines do.
    Bf16,
    /// As computed.
    F32,
}

impl From<KvArg> for xgraft_model::KvType {
    fn from(arg: KvArg) -> Self {
        match arg {
            KvArg::Bf16 => Self::Bf16,
            KvArg::F32 => Self::F32,
        }
    }
}

/// `ORIGINAL=QUANTIZED`; where a path holds a `=` itself, the split that gives two directories.
fn parse_noise(text: &str) -> Result<NoiseArg, String> {
    let splits = text.match_indices('=').map(|(at, _)| NoiseArg {
        original: text[..at].into(),
        quantized: text[at + 1..].into(),
    });
    let splits: Vec<NoiseArg> = splits
        .filter(|s| s.original != Path::new("") && s.quantized != Path::new(""))
        .collect();
    let both = |s: &&NoiseArg| s.original.is_dir() && s.quantized.is_dir();
    let split = splits.iter().find(both).or(splits.first());
    split
        .cloned()
        .ok_or_else(|| format!("expected two directories as ORIGINAL=QUANTIZED, found {text:?}"))
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1024) => Ok(n),
        _ => Err("expected a number from 1 to 1024".to_owned()),
    }
}

/// Bytes with an optional unit: `123`, `500MB`, `2GiB`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("expected a number of bytes such as 500MB or 2GiB, found {text:?}"))?;
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024f64.powi(2),
        "gib" => 1024f64.powi(3),
        "tib" => 1024f64.powi(4),
        other => {
            return Err(format!(
                "unknown unit {other:?}; use B, KB, MB, GB, KiB, MiB or GiB"
            ));
        }
    };
    let bytes = number * factor;
    if bytes >= 1.0 && bytes < 2f64.powi(63) {
        Ok(bytes as u64)
    } else {
        Err(format!("{text:?} is not a usable number of bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn a_noise_is_two_paths() {
        let noise = parse_noise("a/b=c").unwrap();
        assert_eq!(noise.original, Path::new("a/b"));
        assert_eq!(noise.quantized, Path::new("c"));
        for bad in ["a", "=b", "a="] {
            assert!(parse_noise(bad).unwrap_err().contains("ORIGINAL=QUANTIZED"));
        }
        let temp = tempfile::tempdir().unwrap();
        let (x, y) = (temp.path().join("x=1"), temp.path().join("y"));
        std::fs::create_dir_all(&x).unwrap();
        std::fs::create_dir_all(&y).unwrap();
        let noise = parse_noise(&format!("{}={}", x.display(), y.display())).unwrap();
        assert_eq!((noise.original, noise.quantized), (x, y));
    }

    #[test]
    fn bytes_take_decimal_and_binary_units() {
        assert_eq!(parse_bytes("123"), Ok(123));
        assert_eq!(parse_bytes("1.5GB"), Ok(1_500_000_000));
        assert_eq!(parse_bytes("2 GiB"), Ok(2 << 30));
        assert!(parse_bytes("2 pounds").is_err());
        assert!(parse_bytes("0").is_err());
        assert!(parse_bytes("-1").is_err());
    }
}
