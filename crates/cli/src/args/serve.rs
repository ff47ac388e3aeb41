//! The arguments of `xgraft serve`.

use super::values::parse_bytes;
use super::{Listen, Pool};
use clap::ValueEnum;
use std::path::PathBuf;

/// Serve a model and its adapters over HTTP, as the API of OpenAI.
///
/// Binds to the loopback address unless --host says otherwise. Ctrl-C or SIGTERM lets running requests end.
#[derive(Debug, clap::Args)]
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
    #[command(flatten)]
    pub(crate) listen: Listen,
    /// The port; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) port: u16,
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
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "512")]
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
        value_parser = clap::value_parser!(i64).range(-1..),
        default_value = "20",
        allow_hyphen_values = true
    )]
    pub(crate) max_logprobs: i64,
    /// Seconds that running requests may still take after SIGTERM; new ones are answered with 503 meanwhile.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub(crate) drain_timeout: u64,
    /// Computes every prompt anew.
    #[arg(long)]
    pub(crate) no_prefix_cache: bool,
    #[command(flatten)]
    pub(crate) pool: Pool,
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number above 0".to_owned()),
        Ok(count) => Ok(count),
    }
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
