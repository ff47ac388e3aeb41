//! The next token, from a row of logits and what a request asks for.
//!
//! The order is vLLM's (version 1, `vllm/v1/sample/sampler.py`):
//!
//! 1. logprobs, of the logits as the model gave them;
//! 2. the constraint's mask, then stop tokens before `min_tokens`, both to −∞;
//! 3. `logit_bias`, added;
//! 4. `repetition_penalty` of the tokens of prompt and output, then `frequency_penalty` and `presence_penalty` of those of the output;
//! 5. with a temperature below 10⁻⁵ the largest, of equal ones that of lowest number; else
//! 6. temperature, `min_p`, `top_k`, and `top_p` of what is left after those;
//! 7. one draw.
//!
//! Two things differ, so that a token is a function of the request and the logits alone. Of logits equal to the
//! `top_k`-th, those of lower number are kept, where vLLM keeps all. And the draw is the inverse of the cumulated
//! distribution at a number that belongs to seed, choice and position, where vLLM's generator advances with the batch.
//!
//! Architecture invariants: no call into the C library's mathematics, and every sum in an order that depends on the row alone.

mod adjust;
mod draw;
mod isa;
mod logprobs;
mod math;
mod passes;
mod random;
mod select;

#[cfg(test)]
mod tests;

use crate::engine::{Logprobs, Sampling, TokenId, TopLogprobs};

pub use adjust::{History, has_penalties};
pub(crate) use random::mix;

/// Temperatures below it take the largest logit, as in vLLM.
const GREEDY: f32 = 1e-5;

/// Chooses tokens. It holds nothing but memory to work in.
#[derive(Debug, Default)]
pub struct Sampler {
    isa: isa::Isa,
    raw: Vec<f32>,
    log_softmax: logprobs::LogSoftmax,
    scratch: draw::Scratch,
}

/// What decides about one token, besides the logits.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The request's settings.
    pub sampling: &'a Sampling,
    /// Which choice of the request.
    pub choice: u32,
    /// How many tokens its output has already.
    pub position: usize,
    /// What it has generated so far; needed where [`has_penalties`].
    pub history: Option<&'a History>,
    /// Tokens that must not come, whatever the settings.
    pub forbidden: &'a [TokenId],
    /// The only tokens that may come, as in [`Constraint::allowed`](crate::engine::Constraint::allowed).
    pub allowed: Option<&'a [u32]>,
    /// Logprobs wanted of the token.
    pub logprobs: TopLogprobs,
}

/// Logits of which no token can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no token can be chosen: the logits hold NaN or infinity (look at the adapter with `xgraft autopsy` or `sanitize`), or no token is allowed"
)]
pub struct NotFinite;

impl Sampler {
    /// The next token, and its logprobs if they are wanted. The row is changed.
    ///
    /// # Errors
    /// [`NotFinite`] if a logit is NaN or +∞, or if nothing is left to choose from.
    pub fn next(
        &mut self,
        row: &mut [f32],
        choice: &Choice<'_>,
    ) -> Result<(TokenId, Option<Logprobs>), NotFinite> {
        if choice.logprobs == TopLogprobs::None {
            return Ok((self.token(row, choice)?, None));
        }
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        raw.extend_from_slice(row);
        let token = self.token(row, choice);
        let logprobs = token.and_then(|token| self.logprobs(&raw, token, choice.logprobs));
        self.raw = raw;
        Ok((token?, Some(logprobs?)))
    }

    /// The logprobs of a token that is there already: of a prompt.
    ///
    /// # Errors
    /// [`NotFinite`] if a logit is NaN or +∞.
    ///
    /// # Panics
    /// If the token is outside the row.
    pub fn logprobs(
        &mut self,
        row: &[f32],
        token: TokenId,
        wanted: TopLogprobs,
    ) -> Result<Logprobs, NotFinite> {
        self.log_softmax.of(row, token, wanted)
    }

    fn token(&mut self, row: &mut [f32], choice: &Choice<'_>) -> Result<TokenId, NotFinite> {
        let sampling = choice.sampling;
        if let Some(allowed) = choice.allowed {
            adjust::mask(row, allowed);
        }
        adjust::forbid(row, choice.forbidden);
        adjust::bias(row, &sampling.logit_bias);
        if let Some(history) = choice.history {
            adjust::penalize(row, history, sampling);
        }
        let maximum = self.isa.maximum(row).ok_or(NotFinite)?;
        if sampling.temperature < GREEDY {
            return self.isa.first(row, maximum).ok_or(NotFinite);
        }
        let uniform = random::uniform(sampling.seed, choice.choice, choice.position);
        Ok(draw::draw(
            row,
            maximum,
            sampling,
            uniform,
            &mut self.scratch,
        ))
    }
}
