//! One arm against another.

use std::collections::BTreeMap;

use xgraft_statistics::bootstrap::{self, Shares, Unit};
use xgraft_statistics::{
    Equivalence, Interval, Pairs, Unpaired, clustered, cmh, macro_mean, micro, two_sided,
};

use super::report::{Comparison, Difference, Outcome};
use super::{Arm, Attempts, Options, StatsError};

/// Holds `arm` against `reference`, question by question where both are known so, else by their counts.
///
/// `p_holm` is `p` alone: whoever makes the family adjusts it.
///
/// # Errors
/// The arms were asked other tasks, or one question belongs to two.
pub(super) fn compare(
    arm: &Arm,
    reference: &Arm,
    options: &Options,
) -> Result<Comparison, StatsError> {
    same_tasks(arm, reference)?;
    let shared = shared(arm, reference)?;
    let mut comparison = if shared.is_empty() {
        unpaired(arm, reference, options)
    } else {
        paired(arm, reference, &shared, options)
    };
    comparison.outcome = outcome(&comparison, options.alpha);
    Ok(comparison)
}

/// What may be said, once `p_holm` is known.
pub(super) fn outcome(comparison: &Comparison, alpha: f64) -> Outcome {
    let lower = comparison.difference_micro.value < 0.0;
    match comparison.p_holm < alpha {
        _ if comparison.equivalence.holds() => Outcome::Parity,
        true if lower => Outcome::Lower,
        true => Outcome::Higher,
        false => Outcome::Undecided,
    }
}

fn same_tasks(arm: &Arm, reference: &Arm) -> Result<(), StatsError> {
    for (one, other) in [(arm, reference), (reference, arm)] {
        let missing = one
            .tasks
            .keys()
            .find(|task| !other.tasks.contains_key(*task));
        if let Some(task) = missing {
            return Err(StatsError::Tasks {
                arm: one.name.clone(),
                other: other.name.clone(),
                task: task.clone(),
            });
        }
    }
    Ok(())
}

type Both<'a> = (&'a Attempts, &'a Attempts);

/// The questions that both answered, by task.
fn shared<'a>(
    arm: &'a Arm,
    reference: &'a Arm,
) -> Result<BTreeMap<&'a str, Vec<Both<'a>>>, StatsError> {
    let tasks: BTreeMap<&str, &str> = reference
        .questions
        .keys()
        .map(|(task, question)| (question.as_str(), task.as_str()))
        .collect();
    let mut shared: BTreeMap<&str, Vec<Both>> = BTreeMap::new();
    for (key, attempts) in &arm.questions {
        let (task, question) = key;
        if let Some(other) = reference.questions.get(key) {
            shared.entry(task).or_default().push((attempts, other));
        } else if let Some(other_task) = tasks.get(question.as_str()) {
            return Err(StatsError::Question {
                question: question.clone(),
                arm: arm.name.clone(),
                task: task.clone(),
                other: reference.name.clone(),
                other_task: (*other_task).to_owned(),
            });
        }
    }
    Ok(shared)
}

fn paired(
    arm: &Arm,
    reference: &Arm,
    shared: &BTreeMap<&str, Vec<Both>>,
    options: &Options,
) -> Comparison {
    let strata: Vec<Vec<Unit>> = shared.values().map(|task| units(task)).collect();
    let seen = bootstrap::observed(&strata);
    let replicates = bootstrap::replicates(&strata, options.replicates, options.seed);
    let interval = |statistic: &dyn Fn(&Shares) -> f64| {
        let interval = bootstrap::percentile(&replicates, options.level(), statistic);
        finite(statistic(&seen)).zip(interval).map(difference)
    };
    let all: Vec<Both> = shared.values().flatten().copied().collect();
    let alone = all
        .iter()
        .all(|(a, b)| a.scores.len() == 1 && b.scores.len() == 1);
    let clusters = all.iter().any(|(a, _)| a.cluster.is_some());
    let pairs: Option<Pairs> = alone.then(|| {
        let verdicts = all.iter().map(|(a, b)| (a.mean() > 0.5, b.mean() > 0.5));
        verdicts.collect()
    });
    let (p, test, equivalence) = match pairs.filter(|_| !clusters) {
        Some(pairs) => (
            pairs.mcnemar(),
            "exact McNemar",
            pairs.equivalence(options.margin, options.alpha),
        ),
        None => by_differences(&all, options),
    };
    let counts = Unpaired {
        a: micro(&arm.counts()),
        b: micro(&reference.counts()),
    };
    Comparison {
        paired: true,
        questions: all.len() as u64,
        pairs,
        difference_micro: interval(&|s| s.micro[0] - s.micro[1]).unwrap_or_else(none),
        difference_macro: interval(&|s| s.r#macro[0] - s.r#macro[1]).unwrap_or_else(none),
        p,
        test,
        mid_p: pairs
            .filter(|_| !clusters)
            .map(|pairs| pairs.mcnemar_mid_p()),
        p_unpaired: counts.p(),
        p_holm: p,
        equivalence,
        retention_micro: interval(&|s| s.micro[0] / s.micro[1]),
        retention_macro: interval(&|s| s.r#macro[0] / s.r#macro[1]),
        ..empty(arm, reference, equivalence)
    }
}

/// The questions of a task as they are drawn: alone, or with their cluster.
fn units(task: &[Both]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut clusters: BTreeMap<&str, Unit> = BTreeMap::new();
    for (a, b) in task {
        let question = Unit::question(a.mean(), b.mean());
        match &a.cluster {
            None => units.push(question),
            Some(cluster) => {
                let unit = clusters.entry(cluster).or_insert(Unit {
                    scores: [0.0; 2],
                    questions: 0.0,
                });
                unit.scores[0] += question.scores[0];
                unit.scores[1] += question.scores[1];
                unit.questions += 1.0;
            }
        }
    }
    units.extend(clusters.into_values());
    units
}

/// By the mean of the questions' differences, whose standard error respects repeats and clusters.
///
/// It is never taken below what one question would add, so that no two arms are equal for want of any difference.
fn by_differences(all: &[Both], options: &Options) -> (f64, &'static str, Equivalence) {
    let differences: Vec<f64> = all.iter().map(|(a, b)| a.mean() - b.mean()).collect();
    let estimate = clustered(&differences, &clusters(all), options.level());
    let least = 1.0 / all.len() as f64;
    let se = if estimate.se.is_nan() {
        1.0
    } else {
        estimate.se.max(least)
    };
    (
        two_sided(estimate.value / se),
        "z of clustered differences",
        Equivalence::normal(options.margin, options.alpha, estimate.value, se),
    )
}

/// What each question hangs together with: its cluster, or itself.
fn clusters(all: &[Both]) -> Vec<String> {
    let named = all.iter().enumerate();
    named
        .map(|(index, (a, _))| match &a.cluster {
            Some(cluster) => format!("cluster {cluster}"),
            None => format!("question {index}"),
        })
        .collect()
}

fn unpaired(arm: &Arm, reference: &Arm, options: &Options) -> Comparison {
    let level = options.level();
    let strata: Vec<Unpaired> = arm
        .tasks
        .iter()
        .map(|(task, tally)| Unpaired {
            a: arm.count(tally),
            b: reference.count(&reference.tasks[task]),
        })
        .collect();
    let counts = Unpaired {
        a: micro(&arm.counts()),
        b: micro(&reference.counts()),
    };
    let [a, b] = [arm, reference].map(|arm| macro_mean(&arm.counts(), level));
    let se = a.se.hypot(b.se);
    let equivalence = counts.equivalence(options.margin, options.alpha);
    let (p, test) = match cmh(&strata) {
        Some(p) => (p, "Cochran-Mantel-Haenszel"),
        None => (counts.p(), "z of two shares"),
    };
    Comparison {
        questions: counts.a.n,
        difference_micro: difference((counts.difference(), counts.interval(level))),
        difference_macro: difference((
            a.value - b.value,
            Interval::around(a.value - b.value, se, level),
        )),
        p,
        test,
        p_unpaired: counts.p(),
        p_holm: p,
        retention_micro: counts
            .ratio(level)
            .map(|ratio| difference((ratio.value, ratio.interval))),
        retention_macro: (a.value > 0.0 && b.value > 0.0).then(|| {
            let log = Interval::around(
                (a.value / b.value).ln(),
                (a.se / a.value).hypot(b.se / b.value),
                level,
            );
            difference((
                a.value / b.value,
                Interval {
                    lo: log.lo.exp(),
                    hi: log.hi.exp(),
                },
            ))
        }),
        ..empty(arm, reference, equivalence)
    }
}

fn empty(arm: &Arm, reference: &Arm, equivalence: Equivalence) -> Comparison {
    Comparison {
        arm: arm.name.clone(),
        reference: reference.name.clone(),
        paired: false,
        questions: 0,
        pairs: None,
        difference_micro: none(),
        difference_macro: none(),
        p: 1.0,
        test: "",
        mid_p: None,
        p_unpaired: 1.0,
        p_holm: 1.0,
        equivalence,
        retention_micro: None,
        retention_macro: None,
        outcome: Outcome::Undecided,
    }
}

fn none() -> Difference {
    difference((0.0, Interval { lo: 0.0, hi: 0.0 }))
}

fn difference((value, interval): (f64, Interval)) -> Difference {
    Difference { value, interval }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
