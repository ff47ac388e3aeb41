//! How many questions show how small a difference.

use crate::distribution::normal_quantile;

/// The levels of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The chance of a false alarm, two-sided for differences, one-sided for equivalence.
    pub alpha: f64,
    /// The chance to see what is there.
    pub power: f64,
}

impl Default for Plan {
    /// 5 % and 80 %.
    fn default() -> Self {
        Self {
            alpha: 0.05,
            power: 0.8,
        }
    }
}

impl Plan {
    /// The least paired difference of shares that `questions` questions show, when the arms differ on a share `discordance` of them.
    ///
    /// Never above `discordance`, which is the largest difference that there can be: then nothing is shown.
    ///
    /// **Source** Connor 1987, solved for the difference.
    #[must_use]
    pub fn paired_difference(self, questions: u64, discordance: f64) -> f64 {
        let [alpha, beta] = self.quantiles(2.0);
        let n = questions as f64;
        let next = |d: f64| {
            (alpha * discordance.sqrt() + beta * (discordance - d * d).max(0.0).sqrt()) / n.sqrt()
        };
        (0..100).fold(0.0, |d, _| next(d)).min(discordance)
    }

    /// The least difference of two independent shares near `share` that `questions` questions each show.
    #[must_use]
    pub fn unpaired_difference(self, questions: u64, share: f64) -> f64 {
        let [alpha, beta] = self.quantiles(2.0);
        (alpha + beta) * (2.0 * share * (1.0 - share) / questions as f64).sqrt()
    }

    /// How many questions show that two truly equal arms are equal within `margin`.
    #[must_use]
    pub fn equivalence_questions(self, margin: f64, discordance: f64) -> u64 {
        let alpha = normal_quantile(1.0 - self.alpha);
        let beta = normal_quantile(f64::midpoint(1.0, self.power));
        (discordance * ((alpha + beta) / margin).powi(2)).ceil() as u64
    }

    fn quantiles(self, sides: f64) -> [f64; 2] {
        [1.0 - self.alpha / sides, self.power].map(normal_quantile)
    }
}
