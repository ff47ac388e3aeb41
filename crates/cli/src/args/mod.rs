//! The arguments: what all verbs understand, and one file a verb.
//!
//! An option is where it means something: a verb that draws nothing at random has no `--seed`, one that writes nothing no `--force`.

mod autopsy;
mod balance;
mod calibrate;
mod card;
mod dequantize;
mod eval;
mod extract;
mod fleet;
mod inspect;
mod listen;
mod merge;
mod orthogonality;
mod plan;
mod quantize;
mod report;
mod sanitize;
mod serve;
mod values;
mod verify;

use clap::{Parser, Subcommand, ValueEnum};
use xgraft_adapter_sanitize::Policy;

pub(crate) use self::autopsy::Autopsy;
pub(crate) use self::balance::Balance;
pub(crate) use self::calibrate::{Build, Calibrate, CalibrateVerb, Compare, Observe, RunArgs};
pub(crate) use self::card::Card;
pub(crate) use self::dequantize::Dequantize;
pub(crate) use self::eval::{
    Annotate, Compared, Eval, EvalReport, EvalRun, EvalVerb, NamedPath, Review, SandboxArg, Stats,
};
pub(crate) use self::extract::{DtypeArg, Extract, RankArgs};
pub(crate) use self::fleet::{Diagnose, Fleet};
pub(crate) use self::inspect::Inspect;
use self::listen::Listen;
pub(crate) use self::merge::Merge;
pub(crate) use self::orthogonality::{NoiseArg, Orthogonality};
pub(crate) use self::plan::Plan;
pub(crate) use self::quantize::{LayoutArg, Quantize, ScaleArg, SchemeArg, SearchArg};
pub(crate) use self::report::Report;
pub(crate) use self::sanitize::Sanitize;
pub(crate) use self::serve::Serve;
use self::values::{parse_bytes, parse_threads, parse_time};
pub(crate) use self::verify::Verify;

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
    pub(crate) always: Always,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Always {
    /// Print the report as JSON on stdout.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more to stderr (-v, -vv, -vvv).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What verbs that write a directory or a file understand.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Overwrite {
    /// Replace what exists, and discard unfinished work of another configuration.
    #[arg(long)]
    pub(crate) force: bool,
}

/// What verbs that compute understand.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Pool {
    /// Worker threads; all cores by default. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub(crate) threads: Option<usize>,
}

/// What verbs that draw at random understand.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Random {
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
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
    /// Build what a quantizer is calibrated with.
    Calibrate(Calibrate),
    /// Ask an endpoint the questions of a benchmark, and say what the answers are worth.
    Eval(Eval),
    /// Write the model card of something that xgraft made, from its manifest.
    Card(Card),
    /// Make one HTML and Markdown report of the rows of several steps.
    Report(Report),
}

impl Verb {
    /// The worker threads that were asked for.
    pub(crate) fn threads(&self) -> Option<usize> {
        let pool = match self {
            Self::Extract(verb) => &verb.pool,
            Self::Verify(verb) => &verb.pool,
            Self::Sanitize(verb) => &verb.pool,
            Self::Quantize(verb) => &verb.pool,
            Self::Dequantize(verb) => &verb.pool,
            Self::Orthogonality(verb) => &verb.pool,
            Self::Merge(verb) => &verb.pool,
            Self::Autopsy(verb) => &verb.pool,
            Self::Serve(verb) => &verb.pool,
            Self::Eval(Eval { verb }) => return verb.threads(),
            Self::Calibrate(Calibrate {
                verb: CalibrateVerb::Stats(verb),
            }) => &verb.pool,
            Self::Calibrate(Calibrate {
                verb: CalibrateVerb::Compare(verb),
            }) => &verb.pool,
            Self::Plan(_)
            | Self::Calibrate(_)
            | Self::Inspect(_)
            | Self::Balance(_)
            | Self::Fleet(_)
            | Self::Diagnose(_)
            | Self::Card(_)
            | Self::Report(_) => return None,
        };
        pool.threads
    }
}

#[derive(Debug, clap::Args)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn options_are_known_where_they_mean_something() {
        let known = |line: &str| Args::try_parse_from(line.split(' ')).is_ok();
        for good in [
            "xgraft extract --base a --tuned b --out c --seed 1 --force --threads 2 --json",
            "xgraft quantize a --scheme int4 --out c --threads 2 -v",
            "xgraft inspect a --json",
        ] {
            assert!(known(good), "{good}");
        }
        for bad in [
            "xgraft quantize a --scheme int4 --out c --seed 1",
            "xgraft inspect a --force",
            "xgraft plan a --threads 2",
            "xgraft card a --seed 1",
        ] {
            assert!(!known(bad), "{bad}");
        }
    }
}
