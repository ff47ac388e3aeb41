//! Two arms over the same questions.

use crate::{
    Count, Equivalence, Interval,
    distribution::{critical, crossing, fair_coins},
};
use serde::Serialize;

/// How two arms answered the same questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pairs {
    /// Right in both.
    pub both: u64,
    /// Right in `a` alone.
    pub only_a: u64,
    /// Right in `b` alone.
    pub only_b: u64,
    /// Right in neither.
    pub neither: u64,
}

impl FromIterator<(bool, bool)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (bool, bool)>>(answers: I) -> Self {
        let mut pairs = Self::default();
        for answer in answers {
            *match answer {
                (true, true) => &mut pairs.both,
                (true, false) => &mut pairs.only_a,
                (false, true) => &mut pairs.only_b,
                (false, false) => &mut pairs.neither,
            } += 1;
        }
        pairs
    }
}

impl Pairs {
    /// How many questions.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.both + self.only_a + self.only_b + self.neither
    }

    /// The counts of `a` and of `b`.
    #[must_use]
    pub fn counts(&self) -> [Count; 2] {
        let n = self.n();
        [self.only_a, self.only_b].map(|only| Count::new(self.both + only, n))
    }

    /// The share of `a` less that of `b`.
    #[must_use]
    pub fn difference(&self) -> f64 {
        (self.only_a as f64 - self.only_b as f64) / self.n() as f64
    }

    /// The share of questions that the arms answer differently.
    #[must_use]
    pub fn discordance(&self) -> f64 {
        (self.only_a + self.only_b) as f64 / self.n() as f64
    }

    /// The exact two-sided p of equal shares: McNemar's test with the binomial distribution.
    #[must_use]
    pub fn mcnemar(&self) -> f64 {
        (2.0 * self.tail().0).min(1.0)
    }

    /// The mid-p of McNemar's test: less conservative than the exact one, and in practice still at its level.
    ///
    /// **Source** Fagerland, Lydersen, Laake 2013.
    #[must_use]
    pub fn mcnemar_mid_p(&self) -> f64 {
        let (below, at) = self.tail();
        (2.0 * below - at).min(1.0)
    }

    fn tail(&self) -> (f64, f64) {
        fair_coins(self.only_a.min(self.only_b), self.only_a + self.only_b)
    }

    /// Tango's score interval of the difference.
    ///
    /// # Panics
    /// When there is no question.
    #[must_use]
    pub fn interval(&self, level: f64) -> Interval {
        assert!(self.n() > 0, "at least one question");
        let z = critical(level);
        Interval {
            lo: crossing(-1.0, self.difference(), |d| self.score(d) - z),
            hi: crossing(self.difference(), 1.0, |d| self.score(d) + z),
        }
    }

    /// Two one-sided score tests that the shares are equal within `margin`, each at `alpha`.
    ///
    /// # Panics
    /// When there is no question, or the margin is not inside (0, 1).
    #[must_use]
    pub fn equivalence(&self, margin: f64, alpha: f64) -> Equivalence {
        Equivalence::from_score(margin, alpha, self.interval(1.0 - 2.0 * alpha), |d| {
            self.score(d)
        })
    }

    /// The score statistic of the hypothesis that the true difference is `delta`: falls as `delta` grows.
    ///
    /// **Source** Tango 1998, Statistics in Medicine 17, 891: the variance is that of the most likely shares under the hypothesis.
    fn score(&self, delta: f64) -> f64 {
        let (n, b, c) = (self.n() as f64, self.only_a as f64, self.only_b as f64);
        let excess = b - c - n * delta;
        if excess == 0.0 {
            return 0.0;
        }
        let linear = (2.0 * n - b + c) * delta - b - c;
        let constant = -c * delta * (1.0 - delta);
        let root = (linear * linear - 8.0 * n * constant).max(0.0).sqrt();
        let only_b = ((root - linear) / (4.0 * n)).max(0.0);
        let variance = n * (2.0 * only_b + delta * (1.0 - delta)).max(0.0);
        excess / variance.sqrt()
    }
}
