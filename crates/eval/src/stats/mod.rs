//! What the counts of several arms say, and what they do not.
//!
//! [`analyse`] takes arms, however they were read: from event logs, from files of trajectories ([`read_arms`]), or from
//! tables of counts ([`read_counts`]). Arms whose questions are known are compared question by question.
//!
//! **Invariant:** the word parity is [`Outcome::Parity`], which only a passed test of equivalence gives.

mod arm;
mod claims;
mod compare;
mod distance;
mod error;
mod files;
mod measured;
mod report;
mod rows;

use std::collections::BTreeMap;

use xgraft_statistics::power::Plan;
use xgraft_statistics::{Count, clustered, holm, macro_mean, micro, pass_k};

pub use self::arm::{Arm, Attempts, Infrastructure, Scoring, Size, Tally};
pub use self::claims::{Claim, Kind};
pub use self::distance::{Divergence, Further, OfQuestion, Pair, read_distances};
pub use self::error::StatsError;
pub use self::files::{Collection, read_counts};
pub use self::report::{
    ArmReport, Comparison, Difference, Judged, Outcome, Power, Repeats, Report, Share, Verdict,
};
pub use self::rows::{Clusters, read_arms};

/// What is asked of the counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The margin of equivalence, as a share inside (0, 1).
    pub margin: f64,
    /// The level of tests, inside (0, 0.5).
    pub alpha: f64,
    /// Replicates of the bootstrap.
    pub replicates: u32,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Arms that are also held against each other, by name.
    pub pairs: Vec<[String; 2]>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            margin: 0.03,
            alpha: 0.05,
            replicates: 10_000,
            seed: 0,
            pairs: Vec::new(),
        }
    }
}

impl Options {
    fn level(&self) -> f64 {
        1.0 - self.alpha
    }
}

/// Compares every arm with the reference (the first one, where none is named) and the pairs with each other, and judges the claims.
///
/// # Errors
/// Two arms share a name, an arm has a task without a scored question or tasks that the reference has not, or a claim
/// or a pair names what is not there.
pub fn analyse(
    arms: &[Arm],
    reference: Option<&str>,
    claims: &[Claim],
    options: &Options,
) -> Result<Report, StatsError> {
    check(arms)?;
    let first = arms.first().map(|arm| arm.name.as_str());
    let reference = find(arms, reference.or(first).unwrap_or_default())?;
    let judge = claims::Judge {
        arms,
        reference,
        options,
    };
    Ok(Report {
        schema: "xgraft.eval-stats/1",
        reference: reference.name.clone(),
        synthetic: arms.iter().any(|arm| arm.synthetic),
        margin: options.margin,
        alpha: options.alpha,
        arms: arms.iter().map(|arm| describe(arm, options)).collect(),
        comparisons: comparisons(arms, reference, options)?,
        pairs: distance::pairs(arms, &options.pairs, options)?,
        claims: judge.all(claims)?,
        power: power(micro(&reference.counts()), options),
    })
}

fn find<'a>(arms: &'a [Arm], name: &str) -> Result<&'a Arm, StatsError> {
    arms.iter()
        .find(|arm| arm.name == name)
        .ok_or_else(|| StatsError::Arm {
            name: name.to_owned(),
            known: arms
                .iter()
                .map(|arm| arm.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

fn check(arms: &[Arm]) -> Result<(), StatsError> {
    let mut names = BTreeMap::new();
    for arm in arms {
        if names.insert(&arm.name, ()).is_some() {
            return Err(StatsError::Name {
                name: arm.name.clone(),
            });
        }
        let empty = arm.tasks.iter().find(|(_, tally)| arm.count(tally).n == 0);
        let empty = empty.map(|(task, _)| task.clone());
        let nothing = arm.tasks.is_empty().then(|| "(any)".to_owned());
        if let Some(task) = empty.or(nothing) {
            return Err(StatsError::Empty {
                arm: arm.name.clone(),
                task,
            });
        }
    }
    Ok(())
}

fn comparisons(
    arms: &[Arm],
    reference: &Arm,
    options: &Options,
) -> Result<Vec<Comparison>, StatsError> {
    let others = arms.iter().filter(|arm| arm.name != reference.name);
    let mut all = others
        .map(|arm| compare::compare(arm, reference, options))
        .collect::<Result<Vec<_>, _>>()?;
    let p: Vec<f64> = all.iter().map(|comparison| comparison.p).collect();
    for (comparison, adjusted) in all.iter_mut().zip(holm(&p)) {
        comparison.p_holm = adjusted;
        comparison.outcome = compare::outcome(comparison, options.alpha);
    }
    Ok(all)
}

fn describe(arm: &Arm, options: &Options) -> ArmReport {
    let level = options.level();
    let counts = arm.counts();
    let classes = arm.total();
    let dropped = classes.infrastructure + classes.unlabelled;
    let counted = arm.infrastructure == Infrastructure::Wrong && dropped > 0;
    let tasks = arm.tasks.iter();
    ArmReport {
        arm: arm.name.clone(),
        label: arm.label.clone(),
        infrastructure: arm.infrastructure,
        scoring: arm.scoring,
        micro: Share::of(micro(&counts), level),
        r#macro: macro_mean(&counts, level),
        macro_of_whole_percents: arm.macro_of_whole_percents(),
        other_scoring: arm.other.as_ref().map(|tasks| {
            let counts = arm.counts_of(tasks);
            (Share::of(micro(&counts), level), macro_mean(&counts, level))
        }),
        clustered: (!arm.questions.is_empty()).then(|| clustered_share(arm, level)),
        without_infrastructure: counted
            .then(|| Share::of(Count::new(classes.right, classes.scored()), level)),
        classes,
        tasks: tasks
            .map(|(task, tally)| (task.clone(), Share::of(arm.count(tally), level)))
            .collect(),
        repeats: repeats(arm, level),
        seconds_per_question: arm.seconds.map(|seconds| seconds / classes.asked() as f64),
        size_gb: arm.size,
        resident_gb: arm.resident,
        divergence: distance::of_arm(arm, level),
    }
}

fn clustered_share(arm: &Arm, level: f64) -> xgraft_statistics::Estimate {
    let means: Vec<f64> = arm.questions.values().map(Attempts::mean).collect();
    let named = arm.questions.iter();
    let clusters: Vec<String> = named
        .map(|((task, question), attempts)| match &attempts.cluster {
            Some(cluster) => format!("{task} cluster {cluster}"),
            None => format!("{task} question {question}"),
        })
        .collect();
    clustered(&means, &clusters, level)
}

fn repeats(arm: &Arm, level: f64) -> Option<Repeats> {
    if arm.is_single() {
        return None;
    }
    let counts: Vec<Count> = arm.questions.values().map(Attempts::count).collect();
    let attempts = counts.iter().map(|count| count.n).min()?;
    let by_k = |chance: fn(Count, u64) -> Option<f64>| {
        let all = 1..=attempts;
        all.map(|k| {
            let chances: Vec<f64> = counts.iter().filter_map(|c| chance(*c, k)).collect();
            (k, pass_k::mean(&chances, level))
        })
        .collect()
    };
    let spread = pass_k::spread(&counts)?;
    Some(Repeats {
        attempts,
        pass_any: by_k(pass_k::any_right),
        pass_all: by_k(pass_k::all_right),
        between_runs: spread.between_runs,
        between_questions: spread.between_questions,
    })
}

fn power(reference: Count, options: &Options) -> Power {
    let plan = Plan {
        alpha: options.alpha,
        ..Plan::default()
    };
    let shares = [10_u32, 15, 20, 25, 30, 40];
    let by_share = shares.map(|percent| (percent, f64::from(percent) / 100.0));
    Power {
        questions: reference.n,
        unpaired_difference: plan.unpaired_difference(reference.n, reference.share()),
        paired_difference: by_share
            .map(|(percent, d)| (percent, plan.paired_difference(reference.n, d)))
            .into(),
        equivalence_questions: by_share
            .map(|(percent, d)| (percent, plan.equivalence_questions(options.margin, d)))
            .into(),
    }
}
