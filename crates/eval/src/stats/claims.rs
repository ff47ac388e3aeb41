//! What a source claims of its arms, and whether the counts say so.

use std::fmt;

use serde::{Deserialize, Serialize};
use xgraft_statistics::{Interval, holm, macro_mean};

use super::compare::compare;
use super::report::{Comparison, Difference, Judged, Verdict};
use super::{Arm, Options, StatsError};

/// A claim and where it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Table or section.
    pub source: String,
    /// What is claimed.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What can be claimed. Values are shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// The macro accuracy, to a tenth of a percent, exactly or of tasks rounded to whole percents.
    Accuracy {
        /// The arm.
        arm: String,
        /// Its accuracy.
        value: f64,
    },
    /// The macro accuracy over the reference's, to a tenth of a percent, rounded likewise.
    Retention {
        /// The arm.
        arm: String,
        /// Its retention.
        value: f64,
    },
    /// The accuracy in one task, to a percent.
    Task {
        /// The arm.
        arm: String,
        /// The task.
        task: String,
        /// Its accuracy.
        value: f64,
    },
    /// At least as good in so many tasks.
    TasksAtLeast {
        /// The arm.
        arm: String,
        /// The arm that it is compared with.
        than: String,
        /// How many.
        tasks: usize,
    },
    /// Equal, which is judged as equality within the margin.
    Parity {
        /// The arm.
        arm: String,
        /// The arm that it is compared with.
        than: String,
    },
    /// Worse.
    Below {
        /// The arm.
        arm: String,
        /// The arm that it is compared with.
        than: String,
    },
    /// A prediction: more than so much of the reference's accuracy is kept.
    RetentionAbove {
        /// The arm.
        arm: String,
        /// So much.
        value: f64,
    },
    /// A prediction: less than so much of the reference's accuracy is kept.
    RetentionBelow {
        /// The arm.
        arm: String,
        /// So much.
        value: f64,
    },
    /// The share of memory that is saved, to half a percent, judged by computed sizes.
    Saving {
        /// The arm.
        arm: String,
        /// The arm that it is compared with.
        than: String,
        /// The share.
        value: f64,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accuracy { arm, value } => write!(f, "{arm} reaches {:.1} %", 100.0 * value),
            Self::Retention { arm, value } => write!(f, "{arm} retains {:.1} %", 100.0 * value),
            Self::Task { arm, task, value } => {
                write!(f, "{arm} reaches {:.0} % in {task}", 100.0 * value)
            }
            Self::TasksAtLeast { arm, than, tasks } => {
                write!(f, "{arm} is at least as good as {than} in {tasks} tasks")
            }
            Self::Parity { arm, than } => write!(f, "{arm} equals {than}"),
            Self::Below { arm, than } => write!(f, "{arm} is below {than}"),
            Self::RetentionAbove { arm, value } => {
                write!(
                    f,
                    "prediction: {arm} retains more than {:.0} %",
                    100.0 * value
                )
            }
            Self::RetentionBelow { arm, value } => {
                write!(
                    f,
                    "prediction: {arm} retains less than {:.0} %",
                    100.0 * value
                )
            }
            Self::Saving { arm, than, value } => {
                write!(
                    f,
                    "{arm} takes {:.1} % less memory than {than}",
                    100.0 * value
                )
            }
        }
    }
}

/// Half of a tenth of a percent, and of a percent, with room for rounding of the last bit.
const TENTH: f64 = 0.0005 + 1e-9;
const PERCENT: f64 = 0.005 + 1e-9;

/// What claims are judged by.
pub(super) struct Judge<'a> {
    pub(super) arms: &'a [Arm],
    pub(super) reference: &'a Arm,
    pub(super) options: &'a Options,
}

impl Judge<'_> {
    /// Judges all claims; those that one arm is below another are one family.
    pub(super) fn all(&self, claims: &[Claim]) -> Result<Vec<Judged>, StatsError> {
        let mut below = Vec::new();
        for claim in claims {
            if let Kind::Below { arm, than } = &claim.kind {
                below.push(self.compare(arm, than)?.p);
            }
        }
        let mut adjusted = holm(&below).into_iter();
        claims
            .iter()
            .map(|claim| self.one(claim, &mut adjusted))
            .collect()
    }

    fn one(
        &self,
        claim: &Claim,
        adjusted: &mut impl Iterator<Item = f64>,
    ) -> Result<Judged, StatsError> {
        let (verdict, found, note) = match &claim.kind {
            Kind::Accuracy { arm, value } => {
                let arm = self.arm(arm)?;
                let mean = macro_mean(&arm.counts(), self.options.level());
                let found = seen(mean.value, Some(mean.interval));
                let rounded = arm.macro_of_whole_percents();
                let (verdict, note) = rounded_alike(*value, mean.value, rounded);
                (verdict, found, note)
            }
            Kind::Retention { arm, value } => self.retention(arm, *value)?,
            Kind::Task { arm, task, value } => self.task(arm, task, *value)?,
            Kind::TasksAtLeast { arm, than, tasks } => self.tasks(arm, than, *tasks)?,
            Kind::Parity { arm, than } => self.parity(arm, than)?,
            Kind::Below { arm, than } => self.below(arm, than, adjusted.next().unwrap_or(1.0))?,
            Kind::RetentionAbove { arm, value } => self.prediction(arm, *value, true)?,
            Kind::RetentionBelow { arm, value } => self.prediction(arm, *value, false)?,
            Kind::Saving { arm, than, value } => self.saving(arm, than, *value)?,
        };
        Ok(Judged {
            claim: claim.clone(),
            verdict,
            found: found.0,
            interval: found.1,
            note,
        })
    }

    fn retention(&self, arm: &str, value: f64) -> Result<Answer, StatsError> {
        let comparison = self.compare(arm, &self.reference.name)?;
        let Some(found) = comparison.retention_macro else {
            return Ok(unknown("a share is 0"));
        };
        let of = |arm: &Arm| (1000.0 * arm.macro_of_whole_percents()).round();
        let rounded = of(self.arm(arm)?) / of(self.reference);
        let (verdict, note) = rounded_alike(value, found.value, rounded);
        let note = note.or_else(|| micro_note(&comparison));
        Ok((verdict, seen(found.value, Some(found.interval)), note))
    }

    fn task(&self, arm: &str, task: &str, value: f64) -> Result<Answer, StatsError> {
        let arm = self.arm(arm)?;
        let tally = arm.tasks.get(task).ok_or_else(|| StatsError::Task {
            name: task.to_owned(),
            known: arm.tasks.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let count = arm.count(tally);
        let interval = count.wilson(self.options.level());
        Ok((
            same(count.share(), value, PERCENT),
            seen(count.share(), Some(interval)),
            Some(format!("{} of {}", count.right, count.n)),
        ))
    }

    fn tasks(&self, arm: &str, than: &str, tasks: usize) -> Result<Answer, StatsError> {
        let (arm, than) = (self.arm(arm)?, self.arm(than)?);
        let share = |arm: &Arm, task: &str| {
            let tally = arm.tasks.get(task);
            tally.map_or(f64::NAN, |tally| arm.count(tally).share())
        };
        let all = arm.tasks.keys();
        let compare = |task: &&String| share(arm, task).total_cmp(&share(than, task));
        let better = all.clone().filter(|task| compare(task).is_gt()).count();
        let equal = all.filter(|task| compare(task).is_eq()).count();
        let verdict = if better + equal >= tasks {
            Verdict::Holds
        } else {
            Verdict::Fails
        };
        let note = format!(
            "{better} higher, {equal} equal, of {} tasks",
            arm.tasks.len()
        );
        Ok((verdict, seen((better + equal) as f64, None), Some(note)))
    }

    fn parity(&self, arm: &str, than: &str) -> Result<Answer, StatsError> {
        let comparison = self.compare(arm, than)?;
        let test = comparison.equivalence;
        let outside = test.interval.hi < -test.margin || test.interval.lo > test.margin;
        let verdict = match test.holds() {
            true => Verdict::Holds,
            false if outside => Verdict::Fails,
            false => Verdict::Undecided,
        };
        let note = format!(
            "equality within {:.0} points: p {:.2}; difference: p {:.2} ({})",
            100.0 * test.margin,
            test.p(),
            comparison.p,
            comparison.test
        );
        Ok((
            verdict,
            seen(comparison.difference_micro.value, Some(test.interval)),
            Some(note),
        ))
    }

    fn below(&self, arm: &str, than: &str, p_holm: f64) -> Result<Answer, StatsError> {
        let comparison = self.compare(arm, than)?;
        let difference = comparison.difference_micro;
        let verdict = match p_holm < self.options.alpha {
            true if difference.value < 0.0 => Verdict::Holds,
            true => Verdict::Fails,
            false => Verdict::Undecided,
        };
        let note = format!(
            "p {}, by Holm {} ({})",
            short_p(comparison.p),
            short_p(p_holm),
            comparison.test
        );
        Ok((
            verdict,
            seen(difference.value, Some(difference.interval)),
            Some(note),
        ))
    }

    fn prediction(&self, arm: &str, value: f64, above: bool) -> Result<Answer, StatsError> {
        let comparison = self.compare(arm, &self.reference.name)?;
        let Some(found) = comparison.retention_macro else {
            return Ok(unknown("a share is 0"));
        };
        let Interval { lo, hi } = found.interval;
        let verdict = match (lo > value, hi < value) {
            (true, _) if above => Verdict::Holds,
            (_, true) if !above => Verdict::Holds,
            (false, false) => Verdict::Undecided,
            _ => Verdict::Fails,
        };
        Ok((
            verdict,
            seen(found.value, Some(found.interval)),
            micro_note(&comparison),
        ))
    }

    fn saving(&self, arm: &str, than: &str, value: f64) -> Result<Answer, StatsError> {
        let (Some(arm), Some(than)) = (self.arm(arm)?.size, self.arm(than)?.size) else {
            return Ok(unknown("no sizes are known"));
        };
        let found = 1.0 - arm.computed / than.computed;
        let note = format!("{} of {} GB", arm.computed, than.computed);
        Ok((same(found, value, PERCENT), seen(found, None), Some(note)))
    }

    fn compare(&self, arm: &str, than: &str) -> Result<Comparison, StatsError> {
        compare(self.arm(arm)?, self.arm(than)?, self.options)
    }

    fn arm(&self, name: &str) -> Result<&Arm, StatsError> {
        super::find(self.arms, name)
    }
}

type Answer = (Verdict, (f64, Option<Interval>), Option<String>);

fn seen(value: f64, interval: Option<Interval>) -> (f64, Option<Interval>) {
    (value, interval)
}

fn unknown(why: &str) -> Answer {
    (Verdict::Undecided, (0.0, None), Some(why.to_owned()))
}

fn same(found: f64, claimed: f64, tolerance: f64) -> Verdict {
    if (found - claimed).abs() <= tolerance {
        Verdict::Holds
    } else {
        Verdict::Fails
    }
}

/// Whether a number is claimed as it is, or as it comes out of whole percents by task.
fn rounded_alike(claimed: f64, found: f64, rounded: f64) -> (Verdict, Option<String>) {
    let exact = same(found, claimed, TENTH);
    let by_rounding = same(rounded, claimed, TENTH);
    let note = (exact == Verdict::Fails && by_rounding == Verdict::Holds)
        .then(|| "of tasks rounded to whole percents".to_owned());
    (if note.is_some() { by_rounding } else { exact }, note)
}

fn micro_note(comparison: &Comparison) -> Option<String> {
    let Difference { value, interval } = comparison.retention_micro?;
    Some(format!(
        "over all questions {:.1} % [{:.1}, {:.1}]",
        100.0 * value,
        100.0 * interval.lo,
        100.0 * interval.hi
    ))
}

/// A p with as many digits as it is worth.
fn short_p(p: f64) -> String {
    if p < 0.001 {
        format!("{p:.0e}")
    } else {
        format!("{p:.3}")
    }
}
