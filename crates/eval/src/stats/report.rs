//! What is said of every arm, every comparison and every claim.

use std::collections::BTreeMap;

use serde::Serialize;
use xgraft_statistics::{Count, Equivalence, Estimate, Interval, Pairs};

use super::{Claim, Divergence, Infrastructure, Pair, Scoring, Size, Tally};

/// A share of right answers with Wilson's interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Right answers.
    pub right: u64,
    /// Questions, or attempts where questions are repeated.
    pub n: u64,
    /// Their ratio.
    pub value: f64,
    /// Wilson's interval.
    #[serde(flatten)]
    pub interval: Interval,
}

impl Share {
    pub(crate) fn of(count: Count, level: f64) -> Self {
        Self {
            right: count.right,
            n: count.n,
            value: count.share(),
            interval: count.wilson(level),
        }
    }
}

/// Everything that `eval stats` says.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name and version.
    pub schema: &'static str,
    /// The arm that the others are compared with.
    pub reference: String,
    /// Whether questions were made up in the form of their tasks.
    pub synthetic: bool,
    /// The margin of equivalence, as a share.
    pub margin: f64,
    /// The level of every test, and 1 − that of every interval.
    pub alpha: f64,
    /// One for every arm, in the order they were given.
    pub arms: Vec<ArmReport>,
    /// One for every arm but the reference.
    pub comparisons: Vec<Comparison>,
    /// One for every pair that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<Pair>,
    /// One for every claim.
    pub claims: Vec<Judged>,
    /// What this many questions can show.
    pub power: Power,
}

/// One arm.
#[derive(Debug, Serialize)]
pub struct ArmReport {
    /// Its name.
    pub arm: String,
    /// What it is.
    pub label: String,
    /// What failures of the infrastructure count as.
    pub infrastructure: Infrastructure,
    /// Whose word counts here.
    pub scoring: Scoring,
    /// Over all questions.
    pub micro: Share,
    /// The mean over tasks, with the standard error of independent binomials.
    pub r#macro: Estimate,
    /// The mean over tasks of each task's share in whole percent, which is how the published tables round.
    pub macro_of_whole_percents: f64,
    /// Micro and macro by the other scoring, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_scoring: Option<(Share, Estimate)>,
    /// Micro with the standard error that respects repeats and clusters; where questions are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clustered: Option<Estimate>,
    /// Micro without failures of the infrastructure and unlabelled rows, where these count as wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_infrastructure: Option<Share>,
    /// How the questions ended.
    pub classes: Tally,
    /// Every task.
    pub tasks: BTreeMap<String, Share>,
    /// Where questions were repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// Seconds a question, as its client measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_per_question: Option<f64>,
    /// What it takes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<Size>,
    /// What its server took of memory, in 10⁹ bytes, with all adapters that it served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_gb: Option<f64>,
    /// How far it is from the reference over the same answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
}

/// Repeated attempts at every question.
#[derive(Debug, Serialize)]
pub struct Repeats {
    /// Attempts at the question that has the fewest.
    pub attempts: u64,
    /// The chance that one of k is right, by k.
    pub pass_any: BTreeMap<u64, Estimate>,
    /// The chance that all of k are right, by k.
    pub pass_all: BTreeMap<u64, Estimate>,
    /// The standard deviation of a whole run's accuracy that comes from repeating it.
    pub between_runs: f64,
    /// The standard deviation of the questions' own chances.
    pub between_questions: f64,
}

/// What may be said of two arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Equal within the margin, by test.
    Parity,
    /// Lower, at the level of the whole family.
    Lower,
    /// Higher, at the level of the whole family.
    Higher,
    /// Neither a difference nor equality is shown.
    Undecided,
}

/// One arm against the reference. Differences are the arm less the reference.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// The reference.
    pub reference: String,
    /// Whether the same questions are held side by side.
    pub paired: bool,
    /// Questions that both answered; of the arm, where not paired.
    pub questions: u64,
    /// How the two answered the same questions; where both answered each once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<Pairs>,
    /// The difference over all questions.
    pub difference_micro: Difference,
    /// The difference of the means over tasks.
    pub difference_macro: Difference,
    /// The p that counts: exact McNemar where paired and single; the stratified test (CMH) of counts; the bootstrap's
    /// normal one where questions are repeated.
    pub p: f64,
    /// Which that is.
    pub test: &'static str,
    /// McNemar's mid-p.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid_p: Option<f64>,
    /// The unpaired z-test's p, for comparison with tables of counts.
    pub p_unpaired: f64,
    /// `p` by Holm over all comparisons.
    pub p_holm: f64,
    /// Equality within the margin, of the micro shares.
    pub equivalence: Equivalence,
    /// The ratio of the micro shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_micro: Option<Difference>,
    /// The ratio of the macro means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_macro: Option<Difference>,
    /// What may be said.
    pub outcome: Outcome,
}

/// A number with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The number.
    pub value: f64,
    /// Its interval.
    #[serde(flatten)]
    pub interval: Interval,
}

/// Whether a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The counts give it, or a test shows it.
    Holds,
    /// The counts give another number, or a test shows the opposite.
    Fails,
    /// The questions are too few to say.
    Undecided,
}

/// A claim and what the counts say to it.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// What is claimed.
    #[serde(flatten)]
    pub claim: Claim,
    /// Whether it holds.
    pub verdict: Verdict,
    /// The number that was found.
    pub found: f64,
    /// Its interval.
    #[serde(flatten)]
    pub interval: Option<Interval>,
    /// What else to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What this many questions can show, with a power of 80 %.
#[derive(Debug, Serialize)]
pub struct Power {
    /// Questions of the reference.
    pub questions: u64,
    /// The least difference that two independent arms show.
    pub unpaired_difference: f64,
    /// The least difference that paired arms show, by the share of questions that they answer differently, in percent.
    pub paired_difference: BTreeMap<u32, f64>,
    /// How many questions show equality within the margin, by the same share.
    pub equivalence_questions: BTreeMap<u32, u64>,
}
