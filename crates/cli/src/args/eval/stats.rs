//! The arguments of `xgraft eval stats` and `xgraft eval report`.

use std::path::PathBuf;

use clap::ValueEnum;
use xgraft_eval::stats::{Claim, Kind, Scoring};

use crate::args::{Overwrite, Pool, Random};

/// Count and compare arms, and say which claims hold.
///
/// Reads folders of runs, files of trajectories, statistics files of the published harness, and collections of counts such as
/// fixtures/published/results.json. Arms whose questions are known are compared question by question. The word parity
/// stands only where a test of equality within --margin passed.
#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) compared: Compared,
    /// Also write report, rows and manifest to a directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}

/// The same as one page that can be sent by mail, with every question and what the arms said to it.
///
/// OUT/report.html loads nothing: figures, tables, and the conversations of two arms beside each other. Questions are there for
/// arms that are read from runs or trajectories; of tables of counts there are only the figures.
#[derive(Debug, clap::Args)]
pub(crate) struct EvalReport {
    #[command(flatten)]
    pub(crate) compared: Compared,
    /// Title of the page.
    #[arg(long, default_value = "xgraft evaluation")]
    pub(crate) title: String,
    /// Where the page goes, with report, rows and manifest.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) output: Overwrite,
    #[command(flatten)]
    pub(crate) pool: Pool,
}

/// Which arms are compared, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Compared {
    /// A run's folder or a file of results; NAME=PATH names its arm.
    #[arg(value_name = "[NAME=]PATH", required = true, value_parser = NamedPath::parse)]
    pub(crate) inputs: Vec<NamedPath>,
    /// The arm that the others are compared with; by default the one the file names, or the first.
    #[arg(long, value_name = "ARM")]
    pub(crate) reference: Option<String>,
    /// The margin within which arms count as equal, as a share.
    #[arg(long, value_name = "SHARE", value_parser = parse_margin, default_value = "0.03")]
    pub(crate) margin: f64,
    /// The level of all tests.
    #[arg(long, value_name = "SHARE", value_parser = parse_alpha, default_value = "0.05")]
    pub(crate) alpha: f64,
    /// Whose word counts in runs: the official score, or the labels of their annotation.
    #[arg(long, value_enum, default_value_t = ScoringArg::Strict)]
    pub(crate) score: ScoringArg,
    /// Only this task; may be given several times.
    #[arg(long = "task", value_name = "TASK")]
    pub(crate) tasks: Vec<String>,
    /// The distances of an arm, from `xgraft calibrate compare --set RUN`; may be given several times.
    #[arg(long = "kl", value_name = "ARM=DIR", value_parser = parse_named)]
    pub(crate) kl: Vec<NamedPath>,
    /// Two arms to be held against each other too; may be given several times.
    #[arg(long = "pair", value_name = "ARM,OTHER", value_parser = parse_pair)]
    pub(crate) pairs: Vec<Pair>,
    /// A prediction to be judged: ARM>0.95 or ARM<0.8 of the reference's macro accuracy.
    #[arg(long = "retention", value_name = "ARM>SHARE", value_parser = parse_retention)]
    pub(crate) retention: Vec<Claim>,
    /// The questions, for --cluster.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub(crate) questions: Option<PathBuf>,
    /// The field of a question's `meta` that names what it hangs together with: a locus, a gene.
    #[arg(long, value_name = "FIELD", requires = "questions")]
    pub(crate) cluster: Option<String>,
    /// Replicates of the bootstrap.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000), default_value = "10000")]
    pub(crate) replicates: u32,
    #[command(flatten)]
    pub(crate) random: Random,
}

/// The names of two arms.
pub(crate) type Pair = [String; 2];

fn parse_pair(text: &str) -> Result<Pair, String> {
    match text.split_once(',') {
        Some((one, other)) if !one.is_empty() && !other.is_empty() && one != other => {
            Ok([one.to_owned(), other.to_owned()])
        }
        _ => Err("expected the names of two arms with a comma between them".to_owned()),
    }
}

fn parse_named(text: &str) -> Result<NamedPath, String> {
    let path = NamedPath::parse(text)?;
    match path.name {
        Some(_) => Ok(path),
        None => Err("expected the name of an arm, `=`, and a folder".to_owned()),
    }
}

/// A path and what its arm is called.
#[derive(Clone, Debug)]
pub(crate) struct NamedPath {
    pub(crate) name: Option<String>,
    pub(crate) path: PathBuf,
}

impl NamedPath {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !name.contains('/') => (Some(name), path),
            _ => (None, text),
        };
        if path.is_empty() {
            return Err("expected a path".to_owned());
        }
        Ok(Self {
            name: name.map(str::to_owned),
            path: path.into(),
        })
    }
}

/// Whose word counts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ScoringArg {
    /// The official score.
    Strict,
    /// The labels of the annotation.
    Judged,
}

impl From<ScoringArg> for Scoring {
    fn from(scoring: ScoringArg) -> Self {
        match scoring {
            ScoringArg::Strict => Self::Strict,
            ScoringArg::Judged => Self::Judged,
        }
    }
}

fn parse_margin(text: &str) -> Result<f64, String> {
    share_below(text, 1.0)
}

fn parse_alpha(text: &str) -> Result<f64, String> {
    share_below(text, 0.5)
}

fn share_below(text: &str, most: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < most => Ok(share),
        _ => Err(format!(
            "expected a share between 0 and {most}, such as 0.03"
        )),
    }
}

fn parse_retention(text: &str) -> Result<Claim, String> {
    let wrong = || format!("expected ARM>0.95 or ARM<0.8, found {text:?}");
    let at = text.rfind(['>', '<']).ok_or_else(wrong)?;
    let (arm, above) = (text[..at].trim().to_owned(), text[at..].starts_with('>'));
    let value: f64 = text[at + 1..].trim().parse().map_err(|_| wrong())?;
    if arm.is_empty() || !(value > 0.0 && value < 10.0) {
        return Err(wrong());
    }
    Ok(Claim {
        source: "prediction".to_owned(),
        kind: if above {
            Kind::RetentionAbove { arm, value }
        } else {
            Kind::RetentionBelow { arm, value }
        },
    })
}
