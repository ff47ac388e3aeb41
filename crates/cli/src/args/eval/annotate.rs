//! The arguments of `xgraft eval annotate`.

use std::path::PathBuf;

/// Say of finished answers whether they are right beyond their form.
///
/// Rules settle the plain cases; a judge, any OpenAI-compatible model, reads the others; decisions of people (`eval review`) stand
/// above both. Everything lies in `annotation/` of the run, and a stopped judging goes on where it was. The official
/// scores stay as they are: both accuracies are printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Annotate {
    /// The folders of finished runs.
    #[arg(value_name = "RUN", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// The judge's endpoint, such as http://127.0.0.1:8000/v1; without one, only rules and people decide.
    #[arg(long, value_name = "URL", requires = "judge_model")]
    pub(crate) judge: Option<String>,
    /// The judge's model.
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub(crate) judge_model: Option<String>,
    /// The environment variable with the judge's API key.
    #[arg(long, value_name = "VARIABLE", default_value = "XGRAFT_JUDGE_KEY")]
    pub(crate) judge_key: String,
    /// The most questions a minute.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value = "120")]
    pub(crate) per_minute: u32,
    /// Questions at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), default_value = "4")]
    pub(crate) concurrency: u16,
    /// Tokens of a judge's answer at most.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) max_tokens: u64,
    /// Seconds that the judge has for an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) patience: u64,
}
