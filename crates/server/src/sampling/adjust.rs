//! What a request changes in a row of logits before a token is chosen.

use crate::engine::{Sampling, TokenId};

/// How often each token of the prompt or output was generated: what the penalties need.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Sorted by token; those of the prompt alone count 0.
    counts: Vec<(TokenId, u32)>,
}

impl History {
    /// Of a prompt without output.
    #[must_use]
    pub fn new(prompt: &[TokenId]) -> Self {
        let mut tokens = prompt.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        Self {
            counts: tokens.into_iter().map(|token| (token, 0)).collect(),
        }
    }

    /// A token was generated.
    pub fn push(&mut self, token: TokenId) {
        match self.counts.binary_search_by_key(&token, |&(t, _)| t) {
            Ok(at) => self.counts[at].1 += 1,
            Err(at) => self.counts.insert(at, (token, 1)),
        }
    }
}

/// Whether any penalty is set, so that a [`History`] is needed.
#[must_use]
pub fn has_penalties(sampling: &Sampling) -> bool {
    sampling.repetition_penalty != 1.0
        || sampling.frequency_penalty != 0.0
        || sampling.presence_penalty != 0.0
}

/// Sets all logits to −∞ but those whose bit is set.
pub(super) fn mask(row: &mut [f32], allowed: &[u32]) {
    for (values, word) in row.chunks_mut(32).zip(allowed) {
        if *word == u32::MAX {
            continue;
        }
        for (bit, value) in values.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *value = f32::NEG_INFINITY;
            }
        }
    }
}

/// Sets the logits of these tokens to −∞.
pub(super) fn forbid(row: &mut [f32], tokens: &[TokenId]) {
    for &token in tokens {
        if let Some(value) = row.get_mut(token as usize) {
            *value = f32::NEG_INFINITY;
        }
    }
}

/// Adds to logits.
pub(super) fn bias(row: &mut [f32], biases: &[(TokenId, f32)]) {
    for &(token, bias) in biases {
        if let Some(value) = row.get_mut(token as usize) {
            *value += bias;
        }
    }
}

/// The repetition penalty of prompt and output, then frequency and presence penalties of the output.
pub(super) fn penalize(row: &mut [f32], history: &History, sampling: &Sampling) {
    let repetition = sampling.repetition_penalty;
    for &(token, count) in &history.counts {
        let Some(value) = row.get_mut(token as usize) else {
            continue;
        };
        if repetition != 1.0 {
            *value = if *value > 0.0 {
                *value / repetition
            } else {
                *value * repetition
            };
        }
        if count > 0 {
            *value -= sampling.frequency_penalty * count as f32;
            *value -= sampling.presence_penalty;
        }
    }
}
