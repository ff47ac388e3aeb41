//! The arguments of `xgraft calibrate`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Overwrite, Pool, Random};

/// Build what a quantizer is calibrated with.
#[derive(Debug, clap::Args)]
pub(crate) struct Calibrate {
    #[command(subcommand)]
    pub(crate) verb: CalibrateVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CalibrateVerb {
    /// Choose samples of scored trajectories.
    Build(Build),
    /// Run a set through a model, and record what goes into its linear layers.
    Stats(Observe),
    /// How far a quantized model's next-token distributions are from the original's, on a set.
    Compare(Compare),
}

/// Run a calibration set through a model, and record what goes into its linear layers.
///
/// Largest magnitude, Σ |x| and Σ x² of every input channel: what `quantize --stats` needs. Memory does not grow with the
/// set, and an interrupted run goes on where it was.
#[derive(Debug, clap::Args)]
pub(crate) struct Observe {
    /// The calibration set: what `xgraft calibrate build` made.
    #[arg(value_name = "SET")]
    pub(crate) set: PathBuf,
    /// The checkpoint that will be quantized, with its tokenizer and chat template.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Where the statistics go.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}

/// Compare a quantized model with its original on a set.
///
/// Mean KL divergence of the next token's distribution, and how often the likeliest token is the same. Inputs of the quantized
/// model's linear layers are rounded as its config.json says an engine rounds them.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// The checkpoint that is held against the reference.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The adapter that it is served with.
    #[arg(long, value_name = "DIR", requires = "weights_only")]
    pub(crate) adapter: Option<PathBuf>,
    /// The checkpoint that it stands for, with its tokenizer and chat template.
    #[arg(long, value_name = "DIR")]
    pub(crate) reference: PathBuf,
    /// The samples: a set of `xgraft calibrate build`, better not the one of the statistics; or the folder of a finished run
    /// of `xgraft eval run`, whose answers are read as the endpoint computed them.
    #[arg(long, value_name = "SET|RUN")]
    pub(crate) set: PathBuf,
    /// Where rows and report go.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Take only every N-th sample.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value = "1")]
    pub(crate) every: u32,
    /// Compare only where a token of a sample's last answer comes next.
    #[arg(long)]
    pub(crate) answers_only: bool,
    /// Leave the inputs of the linear layers as they are computed: what the weights alone cost.
    #[arg(long)]
    pub(crate) weights_only: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}

/// How much of a set is run, and in what portions.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Cut samples at this many tokens; never more than the model has positions.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..), default_value = "8192")]
    pub(crate) max_seq_len: u32,
    /// Take only the first samples.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Tokens that are computed together; results do not depend on it.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=65_536), default_value = "2048")]
    pub(crate) batch_tokens: u32,
}

/// Choose samples of scored trajectories.
///
/// Attempts with a right answer, evenly by task, cleaned of markers and banners, without duplicates and secrets. A set that
/// has anything of the evaluation questions in it is refused, or built without those attempts (`--drop-leaks`).
#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// The trajectories: a run's answers.jsonl, or result rows of the published harness.
    #[arg(value_name = "RESULTS")]
    pub(crate) results: PathBuf,
    /// Where the set goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The checkpoint whose tokenizer and chat template are used.
    #[arg(long, value_name = "DIR")]
    pub(crate) tokenizer: PathBuf,
    /// The questions that the result will be measured with.
    #[arg(long, value_name = "FILE")]
    pub(crate) evaluation: Option<PathBuf>,
    /// Calibrate on this share of the questions only, by seed and id; the others are listed for the evaluation.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub(crate) split: Option<f64>,
    /// Samples.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "128")]
    pub(crate) samples: u32,
    /// Where the quantizer will cut a sample, in tokens.
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub(crate) max_tokens: usize,
    /// Two texts with this share of their five-word runs in common are near duplicates.
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "0.8")]
    pub(crate) similarity: f64,
    /// A run of so many words of an evaluation question betrays it; shorter prompts do whole.
    #[arg(long, value_name = "WORDS", value_parser = clap::value_parser!(u16).range(3..=100), default_value = "13")]
    pub(crate) run_of_words: u16,
    /// Build the set even if it has evaluation questions in it, and say so in it.
    #[arg(long)]
    pub(crate) allow_contamination: bool,
    /// Leave out attempts that have something of an evaluation question in them, and take others in their place.
    #[arg(long, requires = "evaluation", conflicts_with = "allow_contamination")]
    pub(crate) drop_leaks: bool,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) random: Random,
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0, at most 1".to_owned()),
    }
}
