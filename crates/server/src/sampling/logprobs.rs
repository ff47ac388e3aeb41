//! Logarithms of the probabilities that the model itself gives.

use super::NotFinite;
use super::isa::Isa;
use super::math::ln;
use super::passes::Weigh;
use super::select::{key, largest, token};
use crate::engine::{Logprobs, TokenId, TopLogprobs};

/// The log-softmax of a row, for as many tokens as are asked for.
#[derive(Debug, Default)]
pub(crate) struct LogSoftmax {
    isa: Isa,
    sums: Vec<f64>,
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
        let maximum = f64::from(self.isa.maximum(row).ok_or(NotFinite)?);
        let weigh = Weigh {
            maximum,
            sharpness: 1.0,
            min_p: 0.0,
        };
        self.isa.block_sums(row, &weigh, &mut self.sums);
        let log_sum = ln(self.sums.iter().sum());
        let logprob = |x: f32| ((f64::from(x) - maximum) - log_sum) as f32;
        self.select(row, wanted);
        let top = self.keys.iter().map(|&key| {
            let token = token(key);
            (token, logprob(row[token as usize]))
        });
        let logit = row[chosen as usize];
        Ok(Logprobs {
            logprob: logprob(logit),
            rank: self.isa.larger(row, logit),
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
