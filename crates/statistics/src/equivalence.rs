//! Equality within a margin, as a test.

use crate::{Interval, distribution::above};
use serde::Serialize;

/// Two one-sided tests (TOST) that a difference lies inside ± margin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Equivalence {
    /// The margin that was stated beforehand.
    pub margin: f64,
    /// The level of each one-sided test.
    pub alpha: f64,
    /// p of the hypothesis that `a` is worse than `b` by the margin or more: small, and `a` is not inferior.
    pub p_inferior: f64,
    /// p of the hypothesis that `a` is better than `b` by the margin or more.
    pub p_superior: f64,
    /// The interval of level 1 − 2 alpha; equivalence is that it lies inside the margin.
    pub interval: Interval,
}

impl Equivalence {
    /// From the score statistic at a supposed difference.
    pub(crate) fn from_score(
        margin: f64,
        alpha: f64,
        interval: Interval,
        score: impl Fn(f64) -> f64,
    ) -> Self {
        assert!(margin > 0.0 && margin < 1.0, "a margin inside (0, 1)");
        Self {
            margin,
            alpha,
            p_inferior: above(score(-margin)),
            p_superior: above(-score(margin)),
            interval,
        }
    }

    /// From an estimate that is near normal.
    ///
    /// # Panics
    /// When the margin is not inside (0, 1).
    #[must_use]
    pub fn normal(margin: f64, alpha: f64, difference: f64, se: f64) -> Self {
        let interval = Interval::around(difference, se, 1.0 - 2.0 * alpha);
        Self::from_score(margin, alpha, interval, |supposed| {
            (difference - supposed) / se
        })
    }

    /// p of the whole test: the larger of the two.
    #[must_use]
    pub fn p(&self) -> f64 {
        self.p_inferior.max(self.p_superior)
    }

    /// Whether the two are equal within the margin, at this level.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.p() < self.alpha
    }
}
