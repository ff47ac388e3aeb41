//! Two arms of which only the counts are known, as published tables give them.

use crate::{
    Count, Equivalence, Estimate, Interval,
    distribution::{critical, crossing, two_sided},
};

/// Two independent counts. Questions that were the same in both make these tests conservative, not wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpaired {
    /// The arm in question.
    pub a: Count,
    /// The arm that it is compared with.
    pub b: Count,
}

impl Unpaired {
    /// The share of `a` less that of `b`.
    #[must_use]
    pub fn difference(&self) -> f64 {
        self.a.share() - self.b.share()
    }

    /// The two-sided p of equal shares: the z-test with the pooled share.
    #[must_use]
    pub fn p(&self) -> f64 {
        two_sided(self.score(0.0))
    }

    /// The score interval of the difference.
    #[must_use]
    pub fn interval(&self, level: f64) -> Interval {
        let z = critical(level);
        Interval {
            lo: crossing(-1.0, self.difference(), |d| self.score(d) - z),
            hi: crossing(self.difference(), 1.0, |d| self.score(d) + z),
        }
    }

    /// Two one-sided score tests that the shares are equal within `margin`, each at `alpha`.
    ///
    /// # Panics
    /// When the margin is not inside (0, 1).
    #[must_use]
    pub fn equivalence(&self, margin: f64, alpha: f64) -> Equivalence {
        Equivalence::from_score(margin, alpha, self.interval(1.0 - 2.0 * alpha), |d| {
            self.score(d)
        })
    }

    /// The share of `a` over that of `b`, with Katz's interval, which is normal in the logarithm. `None` where a share is 0.
    ///
    /// The standard error is that of the logarithm.
    #[must_use]
    pub fn ratio(&self, level: f64) -> Option<Estimate> {
        let relative = |count: Count| 1.0 / count.right as f64 - 1.0 / count.n as f64;
        let possible = self.a.right > 0 && self.b.right > 0;
        possible.then(|| {
            let value = self.a.share() / self.b.share();
            let se = (relative(self.a) + relative(self.b)).sqrt();
            let half = critical(level) * se;
            Estimate {
                value,
                se,
                interval: Interval {
                    lo: value * (-half).exp(),
                    hi: value * half.exp(),
                },
            }
        })
    }

    /// The score statistic of the hypothesis that the true difference is `delta`.
    ///
    /// **Source** Farrington and Manning 1990: the variance is that of the most likely shares under the hypothesis.
    fn score(&self, delta: f64) -> f64 {
        let excess = self.difference() - delta;
        if excess == 0.0 {
            return 0.0;
        }
        let b = self.likely_b(delta);
        let a = (b + delta).clamp(0.0, 1.0);
        let variance = a * (1.0 - a) / self.a.n as f64 + b * (1.0 - b) / self.b.n as f64;
        excess / variance.sqrt()
    }

    /// The most likely share of `b` where that of `a` is larger by `delta`: the root of a cubic.
    ///
    /// **Source** Miettinen and Nurminen 1985, appendix 1.
    fn likely_b(&self, delta: f64) -> f64 {
        let [n_a, n_b] = [self.a.n as f64, self.b.n as f64];
        let [x_a, x_b] = [self.a.right as f64, self.b.right as f64];
        let n = n_a + n_b;
        let l2 = (n_a + 2.0 * n_b) * delta - n - x_a - x_b;
        let l1 = (n_b * delta - n - 2.0 * x_b) * delta + x_a + x_b;
        let l0 = x_b * delta * (1.0 - delta);
        let third = l2 / (3.0 * n);
        let q = third.powi(3) - l1 * l2 / (6.0 * n * n) + l0 / (2.0 * n);
        let size = (third * third - l1 / (3.0 * n)).max(0.0).sqrt();
        let p = if q < 0.0 { -size } else { size };
        let cosine = if p == 0.0 { 0.0 } else { q / p.powi(3) };
        let angle = (std::f64::consts::PI + cosine.clamp(-1.0, 1.0).acos()) / 3.0;
        let least = (-delta).max(0.0);
        (2.0 * p * angle.cos() - third).clamp(least, (1.0 - delta).min(1.0))
    }
}

/// The two-sided p of equal odds over strata: the Cochran-Mantel-Haenszel test without continuity correction.
///
/// `None` where no stratum can tell: all right or all wrong everywhere.
#[must_use]
pub fn cmh(strata: &[Unpaired]) -> Option<f64> {
    let (mut excess, mut variance) = (0.0, 0.0);
    for Unpaired { a, b } in strata {
        let n = (a.n + b.n) as f64;
        let right = (a.right + b.right) as f64;
        if n < 2.0 {
            continue;
        }
        excess += a.right as f64 - a.n as f64 * right / n;
        variance += a.n as f64 * b.n as f64 * right * (n - right) / (n * n * (n - 1.0));
    }
    (variance > 0.0).then(|| two_sided(excess / variance.sqrt()))
}
