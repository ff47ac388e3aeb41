//! Right answers among questions: shares, their intervals, and means over tasks.

use crate::distribution::critical;
use serde::Serialize;

/// A range that holds the unknown value with the level that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub lo: f64,
    /// The upper end.
    pub hi: f64,
}

impl Interval {
    /// `value` ± the normal quantile of `level` times `se`.
    #[must_use]
    pub fn around(value: f64, se: f64, level: f64) -> Self {
        let half = critical(level) * se;
        Self {
            lo: value - half,
            hi: value + half,
        }
    }

    /// Whether `value` lies inside, ends included.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }
}

/// A number with its standard error and interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its standard error.
    pub se: f64,
    /// Its interval.
    #[serde(flatten)]
    pub interval: Interval,
}

impl Estimate {
    /// An estimate with the normal interval.
    #[must_use]
    pub fn normal(value: f64, se: f64, level: f64) -> Self {
        Self {
            value,
            se,
            interval: Interval::around(value, se, level),
        }
    }
}

/// How many of `n` questions were answered right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Right answers.
    pub right: u64,
    /// Questions.
    pub n: u64,
}

impl Count {
    /// # Panics
    /// When more are right than were asked.
    #[must_use]
    pub fn new(right: u64, n: u64) -> Self {
        assert!(right <= n, "{right} right of {n}");
        Self { right, n }
    }

    /// The share that is right; NaN of no questions.
    #[must_use]
    pub fn share(self) -> f64 {
        self.right as f64 / self.n as f64
    }

    /// The variance of the share, p (1 − p) / n.
    pub(crate) fn variance(self) -> f64 {
        let p = self.share();
        p * (1.0 - p) / self.n as f64
    }

    /// Wilson's score interval: inside [0, 1], and of use near 0 and 1. The whole [0, 1] for no questions.
    ///
    /// **Source** Wilson 1927.
    #[must_use]
    pub fn wilson(self, level: f64) -> Interval {
        if self.n == 0 {
            return Interval { lo: 0.0, hi: 1.0 };
        }
        let (n, p, z) = (self.n as f64, self.share(), critical(level));
        let shrink = 1.0 + z * z / n;
        let centre = (p + z * z / (2.0 * n)) / shrink;
        let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() / shrink;
        Interval {
            lo: if self.right == 0 { 0.0 } else { centre - half },
            hi: if self.right == self.n {
                1.0
            } else {
                centre + half
            },
        }
    }
}

/// The count of all tasks together.
#[must_use]
pub fn micro(tasks: &[Count]) -> Count {
    Count {
        right: tasks.iter().map(|task| task.right).sum(),
        n: tasks.iter().map(|task| task.n).sum(),
    }
}

/// The mean over tasks of each task's share, with the standard error of independent binomials.
///
/// # Panics
/// When there is no task, or one without questions.
#[must_use]
pub fn macro_mean(tasks: &[Count], level: f64) -> Estimate {
    assert!(
        !tasks.is_empty() && tasks.iter().all(|task| task.n > 0),
        "tasks that have questions"
    );
    let k = tasks.len() as f64;
    let mean = tasks.iter().map(|task| task.share()).sum::<f64>() / k;
    let se = tasks.iter().map(|task| task.variance()).sum::<f64>().sqrt() / k;
    Estimate::normal(mean, se, level)
}
