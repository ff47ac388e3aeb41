//! Who is computed next: continuous batching in steps.
//!
//! A step computes the next token of every sequence that decodes, and as much of the prompts as its budget leaves.
//! The rules, and what follows from them:
//!
//! - *Order of arrival decides.* Nobody is admitted before one that came earlier and can go on. A prompt's blocks are all
//!   reserved when it is admitted, so only decoding can run out of blocks; then sequences whose reader is behind lose
//!   theirs first, then the youngest. The oldest that can go on never does: so it ends, the next one becomes the oldest,
//!   and there is no deadlock.
//! - *Decoding comes first.* A running stream waits for prompts at most one step of [`EngineConfig::max_step_tokens`].
//! - *Half of the rest is for the oldest prompt*, the other half for the shortest. With B tokens of budget and S sequences,
//!   a prompt is computed within 2·T/(B − S) steps after its admission, T being the tokens of all prompts admitted
//!   up to it; a short one does not wait for a long one.
//! - *What is lost is computed again*, from the same tokens, to the same bits.

mod admit;
mod plan;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::blocks::BlockPool;
use super::sequence::Sequence;
use super::{Capacity, EngineConfig, FinishReason, Forward, ForwardError, Segment, Stats};
use crate::sampling::Sampler;
use plan::Planned;

/// The sequences, the pool and the model. It runs on one thread and knows no other.
pub(crate) struct Scheduler<F: Forward> {
    forward: F,
    config: EngineConfig,
    capacity: Capacity,
    max_model_len: usize,
    pool: BlockPool,
    /// Those that hold blocks, by arrival.
    running: Vec<Sequence<F::Adapter>>,
    /// Those that hold none, by arrival.
    waiting: VecDeque<Sequence<F::Adapter>>,
    arrivals: u64,
    /// The sequence that could not be admitted, and the pool's clock then.
    blocked: Option<(u64, u64)>,
    sampler: Sampler,
    logits: Vec<f32>,
    mask: Vec<u32>,
    counts: Stats,
    ended: u64,
}

impl<F: Forward> Scheduler<F> {
    /// The configuration is valid and the pool holds a sequence of `max_model_len` tokens.
    pub(crate) fn new(forward: F, config: EngineConfig, max_model_len: usize) -> Self {
        let capacity = forward.capacity();
        Self {
            forward,
            config,
            capacity,
            max_model_len,
            pool: BlockPool::new(capacity.blocks),
            running: Vec::new(),
            waiting: VecDeque::new(),
            arrivals: 0,
            blocked: None,
            sampler: Sampler::default(),
            logits: Vec::new(),
            mask: vec![0; capacity.vocab_size.div_ceil(32)],
            counts: Stats::default(),
            ended: 0,
        }
    }

    /// Queues a sequence, unless nothing is to be computed for it.
    pub(crate) fn push(&mut self, mut sequence: Sequence<F::Adapter>) {
        self.arrivals += 1;
        sequence.arrival = self.arrivals;
        match sequence.exhausted_at_once(self.max_model_len) {
            Some(reason) => self.end(&sequence, reason),
            None => self.waiting.push_back(sequence),
        }
    }

    /// Nobody asks for that adapter generation any more.
    pub(crate) fn forget(&mut self, generation: u64) {
        self.pool.forget(generation);
    }

    /// Computes one batch; false if there was nothing to compute.
    ///
    /// # Errors
    /// When the model failed. Nothing can be computed after that.
    pub(crate) fn step(&mut self) -> Result<bool, ForwardError> {
        let plan = self.prepare();
        if plan.is_empty() {
            return Ok(false);
        }
        self.compute(&plan)?;
        self.settle(&plan);
        self.counts.steps += 1;
        Ok(true)
    }

    /// Settles who holds which blocks, and what is computed.
    fn prepare(&mut self) -> Vec<Planned> {
        self.drop_cancelled();
        self.pause_and_resume();
        self.grow();
        self.admit();
        self.plan()
    }

    fn drop_cancelled(&mut self) {
        let gone = self.running.extract_if(.., |s| s.is_cancelled());
        for mut sequence in gone {
            release(&mut self.pool, &mut sequence);
            self.ended += 1;
        }
        self.waiting.retain(|sequence| !sequence.is_cancelled());
    }

    fn pause_and_resume(&mut self) {
        let all = self.running.iter_mut().chain(&mut self.waiting);
        all.for_each(Sequence::pause_or_resume);
    }

    fn compute(&mut self, plan: &[Planned]) -> Result<(), ForwardError> {
        let segments: Vec<_> = plan
            .iter()
            .map(|planned| segment(&self.running[planned.index], planned))
            .collect();
        self.forward.run(&segments, &mut self.logits)?;
        let rows: usize = plan.iter().map(|planned| planned.rows).sum();
        let (found, vocab_size) = (self.logits.len(), self.capacity.vocab_size);
        if found == rows * vocab_size {
            Ok(())
        } else {
            Err(ForwardError(format!(
                "the model gave {found} logits, expected {rows} rows of {vocab_size}"
            )))
        }
    }

    /// Sends the last event of a sequence that holds no blocks.
    fn end(&mut self, sequence: &Sequence<F::Adapter>, reason: FinishReason) {
        sequence.finish(reason);
        self.ended += 1;
    }

    /// Ends all sequences with an error.
    pub(crate) fn end_all(&mut self, message: &str) {
        let running = std::mem::take(&mut self.running);
        let waiting = std::mem::take(&mut self.waiting);
        for mut sequence in running.into_iter().chain(waiting) {
            release(&mut self.pool, &mut sequence);
            self.end(&sequence, FinishReason::Error(message.to_owned()));
        }
    }

    /// There is no sequence at all.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Sequences that ended so far, in whatever way.
    pub(crate) fn ended(&self) -> u64 {
        self.ended
    }

    /// Sequences that could be admitted in the next step: none if one that waits could not be, for want of blocks.
    pub(crate) fn idle(&self) -> usize {
        let is_stuck = self.waiting.iter().any(|sequence| !sequence.paused);
        if is_stuck {
            return 0;
        }
        self.config.max_num_seqs.saturating_sub(self.active())
    }

    /// Sequences that run and whose reader keeps up.
    fn active(&self) -> usize {
        self.running.iter().filter(|s| !s.paused).count()
    }

    /// The numbers; of those that wait, only those that ran before.
    pub(crate) fn stats(&self) -> Stats {
        let preempted = self.waiting.iter().filter(|s| s.ticket.is_none());
        Stats {
            running: self.running.len(),
            waiting: preempted.count(),
            blocks: self.capacity.blocks,
            blocks_used: self.pool.used(),
            ..self.counts
        }
    }
}

fn segment<'a, A>(sequence: &'a Sequence<A>, planned: &Planned) -> Segment<'a, A> {
    let start = sequence.computed;
    Segment {
        tokens: &sequence.tokens[start..start + planned.count],
        first_position: start,
        blocks: &sequence.blocks,
        adapter: sequence.adapter.as_deref().map(|version| &version.weights),
        logits: planned.rows,
    }
}

/// Lets go of a sequence's blocks: of the last one first, since it is of least use to others.
fn release<A>(pool: &mut BlockPool, sequence: &mut Sequence<A>) {
    for number in sequence.blocks.drain(..).rev() {
        pool.release(number);
    }
    sequence.computed = 0;
}
