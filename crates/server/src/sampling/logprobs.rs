//! Logarithms of the probabilities that the model itself gives.

use super::math::{exp, ln};
use super::select::{key, larger, largest, maximum, token};
use super::{NotFinite, sum};
use crate::engine::{Logprobs, TokenId, TopLogprobs};

/// The log-softmax of a row, for as many tokens as are asked for.
#[derive(Debug, Default)]
pub(crate) struct LogSoftmax {
    weights: Vec<f64>,
    keys: Vec<u64>,
}

impl LogSoftmax {
    /// The logprobs of `chosen` and of the likeliest tokens, in f64 and rounded once.
    ///
    /// # Errors
    /// [`NotFinite`], as for sampling.
    pub(crate) fn of(
        &mut self,
        row: &[f32],
        chosen: TokenId,
        wanted: TopLogprobs,
    ) -> Result<Logprobs, NotFinite> {
        let maximum = f64::from(maximum(row).ok_or(NotFinite)?);
        self.weights.clear();
        let weights = row.iter().map(|&x| exp(f64::from(x) - maximum));
        self.weights.extend(weights);
        let log_sum = ln(sum(&self.weights));
        let logprob = |x: f32| ((f64::from(x) - maximum) - log_sum) as f32;
        self.select(row, wanted);
        let top = self.keys.iter().map(|&key| {
            let token = token(key);
            (token, logprob(row[token as usize]))
        });
        let logit = row[chosen as usize];
        Ok(Logprobs {
            logprob: logprob(logit),
            rank: larger(row, logit),
            top: top.collect(),
        })
    }

    fn select(&mut self, row: &[f32], wanted: TopLogprobs) {
        match wanted {
            TopLogprobs::None => self.keys.clear(),
            TopLogprobs::Best(n) => largest(row, n, &mut self.keys),
            TopLogprobs::All => {
                self.keys.clear();
                let keys = row.iter().enumerate();
                self.keys.extend(keys.map(|(i, &x)| key(i as TokenId, x)));
                self.keys.sort_unstable();
            }
        }
    }
}
