//! What follows from a batch's logits: tokens, logprobs, ends.

use super::plan::Planned;
use super::{Scheduler, release};
use crate::engine::sequence::Sequence;
use crate::engine::{Event, FinishReason, Forward, TokenEvent};
use crate::sampling::Choice;

impl<F: Forward> Scheduler<F> {
    /// Takes the logits of a batch apart, and lets go of what has ended.
    pub(super) fn settle(&mut self, plan: &[Planned]) {
        let mut logits = std::mem::take(&mut self.logits);
        let mut rest = logits.as_mut_slice();
        let mut ends = Vec::new();
        for planned in plan {
            let rows;
            (rows, rest) = rest.split_at_mut(planned.rows * self.capacity.vocab_size);
            if let Some(reason) = self.settle_one(planned, rows) {
                ends.push((planned.index, reason));
            }
        }
        self.logits = logits;
        // From the back, so that the indices before stay what they are.
        ends.sort_unstable_by_key(|&(index, _)| std::cmp::Reverse(index));
        for (index, reason) in ends {
            let mut sequence = self.running.remove(index);
            release(&mut self.pool, &mut sequence);
            self.end(&sequence, reason);
        }
    }

    fn settle_one(&mut self, planned: &Planned, rows: &mut [f32]) -> Option<FinishReason> {
        self.running[planned.index].computed += planned.count;
        self.publish(planned.index);
        if let Err(message) = self.take_prompt_rows(planned, rows) {
            return Some(FinishReason::Error(message));
        }
        let sequence = &mut self.running[planned.index];
        if sequence.need() > 0 {
            return None;
        }
        if !std::mem::replace(&mut sequence.prompt_done, true) {
            self.counts.prompt_tokens += sequence.prompt_len() as u64;
        }
        if let Some(logprobs) = sequence.prompt_logprobs.take() {
            sequence.send(Event::Prompt(logprobs));
        }
        if let Some(reason) = sequence.exhausted(self.max_model_len) {
            return Some(reason);
        }
        let last = rows.len() - self.capacity.vocab_size;
        self.choose(planned.index, &mut rows[last..])
            .unwrap_or_else(Some)
    }

    /// Lets others find the blocks that have become full.
    fn publish(&mut self, index: usize) {
        let sequence = &mut self.running[index];
        let retired = sequence.adapter.as_ref().is_some_and(|v| v.is_retired());
        if retired || !self.config.prefix_cache {
            return;
        }
        let block_tokens = self.capacity.block_tokens;
        let full = sequence.computed / block_tokens;
        let generation = sequence.generation();
        while sequence.published < full {
            let at = sequence.published;
            let number = sequence.blocks[at];
            let prefix = &sequence.prefixes(at + 1, block_tokens)[at];
            self.pool.publish(number, prefix, generation);
            sequence.published += 1;
        }
    }

    /// The logprobs of the prompt's tokens that follow the rows.
    fn take_prompt_rows(&mut self, planned: &Planned, rows: &[f32]) -> Result<(), String> {
        let sequence = &mut self.running[planned.index];
        let first = sequence.computed - planned.rows;
        for (position, row) in (first..).zip(rows.chunks_exact(self.capacity.vocab_size)) {
            if sequence.first_prompt_row() != Some(position) {
                continue;
            }
            let token = sequence.tokens[position + 1];
            let wanted = sequence.request.prompt_logprobs;
            let logprobs = self.sampler.logprobs(row, token, wanted);
            let logprobs = logprobs.map_err(|error| error.to_string())?;
            if let Some(all) = &mut sequence.prompt_logprobs {
                all.push(Some(logprobs));
            }
        }
        Ok(())
    }

    /// Chooses and sends the next token; the reason if it is the last one.
    fn choose(
        &mut self,
        index: usize,
        row: &mut [f32],
    ) -> Result<Option<FinishReason>, FinishReason> {
        let sequence = &mut self.running[index];
        let masked = sequence
            .mask(&mut self.mask)
            .map_err(FinishReason::Constraint)?;
        let allowed = masked.then_some(&self.mask[..]);
        let choice = choice(sequence, allowed);
        let next = self.sampler.next(row, &choice);
        let (id, logprobs) = next.map_err(|error| {
            no_token(&choice).unwrap_or_else(|| FinishReason::Error(error.to_string()))
        })?;
        sequence.push(id);
        self.counts.generation_tokens += 1;
        sequence.send(Event::Token(TokenEvent { id, logprobs }));
        Ok(sequence.exhausted(self.max_model_len))
    }
}

/// The reason if a constraint leaves nothing to choose from: its output is complete where only tokens are left that may
/// not come yet.
fn no_token(choice: &Choice<'_>) -> Option<FinishReason> {
    let mut mask = choice.allowed?.to_vec();
    if mask.iter().all(|word| *word == 0) {
        let message = "it allows no token".to_owned();
        return Some(FinishReason::Constraint(message));
    }
    for &id in choice.forbidden {
        if let Some(word) = mask.get_mut(id as usize / 32) {
            *word &= !(1 << (id % 32));
        }
    }
    let complete = mask.iter().all(|word| *word == 0);
    complete.then_some(FinishReason::Complete)
}

fn choice<'a, A>(sequence: &'a Sequence<A>, allowed: Option<&'a [u32]>) -> Choice<'a> {
    let request = &sequence.request;
    let position = sequence.generated();
    Choice {
        sampling: &request.sampling,
        choice: request.choice,
        position,
        history: sequence.history.as_ref(),
        forbidden: if position < request.min_tokens {
            &request.stop_tokens
        } else {
            &[]
        },
        allowed,
        logprobs: request.logprobs,
    }
}
