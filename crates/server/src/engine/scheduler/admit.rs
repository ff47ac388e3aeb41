//! Who gets blocks, and who loses them.

use std::collections::VecDeque;

use super::{Scheduler, release};
use crate::engine::Forward;
use crate::engine::sequence::Sequence;

impl<F: Forward> Scheduler<F> {
    /// Gives a block to each sequence whose next token needs one, oldest first, taking them from others if there is none.
    pub(super) fn grow(&mut self) {
        let block_tokens = self.capacity.block_tokens;
        for index in self.scheduled() {
            while self.running[index].lacks_block(block_tokens) {
                if let Some(number) = self.pool.take() {
                    self.running[index].blocks.push(number);
                } else if let Some(victim) = self.victim() {
                    // The sequence itself, if nobody is younger: then it holds none and lacks none.
                    self.preempt(victim);
                }
            }
        }
        self.requeue_preempted();
    }

    /// The running sequences of this step: those that can go on, the oldest ones if there are too many.
    pub(super) fn scheduled(&self) -> Vec<usize> {
        let able = self.running.iter().enumerate();
        let able = able.filter(|(_, sequence)| !sequence.paused);
        let able = able.map(|(index, _)| index);
        able.take(self.config.max_num_seqs).collect()
    }

    /// Who loses its blocks: the youngest whose reader is behind, else the youngest.
    fn victim(&self) -> Option<usize> {
        let holds = |s: &Sequence<F::Adapter>| !s.blocks.is_empty();
        self.paused_holder()
            .or_else(|| self.running.iter().rposition(holds))
    }

    fn paused_holder(&self) -> Option<usize> {
        let holds = |s: &Sequence<F::Adapter>| s.paused && !s.blocks.is_empty();
        self.running.iter().rposition(holds)
    }

    pub(super) fn preempt(&mut self, index: usize) {
        release(&mut self.pool, &mut self.running[index]);
        self.counts.preemptions += 1;
    }

    /// Those without blocks wait again, each in its place by arrival.
    pub(super) fn requeue_preempted(&mut self) {
        let preempted = self.running.extract_if(.., |s| s.blocks.is_empty());
        for sequence in preempted {
            queue(&mut self.waiting, sequence);
        }
    }

    /// Admits in order of arrival while there is room; only those whose reader is behind are passed over.
    pub(super) fn admit(&mut self) {
        let mut active = self.active();
        let mut at = 0;
        while active < self.config.max_num_seqs && at < self.waiting.len() {
            if self.waiting[at].paused {
                at += 1;
                continue;
            }
            let Some(mut sequence) = self.waiting.remove(at) else {
                return;
            };
            let placed = self.place(&mut sequence, active);
            // Some may have lost their blocks to it.
            self.requeue_preempted();
            if !placed {
                queue(&mut self.waiting, sequence);
                return;
            }
            let arrival = sequence.arrival;
            let place = self.running.partition_point(|s| s.arrival < arrival);
            self.running.insert(place, sequence);
            active += 1;
            at = self.waiting.partition_point(|s| s.arrival < arrival);
        }
    }

    /// Gives a sequence all blocks that its tokens need, if there are so many, and one more for each active one to grow.
    fn place(&mut self, sequence: &mut Sequence<F::Adapter>, active: usize) -> bool {
        if self.blocked == Some((sequence.arrival, self.pool.clock())) && !self.any_paused() {
            return false;
        }
        let block_tokens = self.capacity.block_tokens;
        let shared = self.cached_blocks(sequence);
        let needed = sequence.blocks_needed(block_tokens);
        loop {
            let unused = self.unused_of(sequence, shared);
            if self.pool.available() - unused >= needed - shared + active {
                break;
            }
            let Some(victim) = self.paused_holder() else {
                self.blocked = Some((sequence.arrival, self.pool.clock()));
                return false;
            };
            self.preempt(victim);
        }
        for prefix in sequence.prefixes(shared, block_tokens).to_vec() {
            sequence.blocks.extend(self.pool.share(&prefix));
        }
        sequence.published = sequence.blocks.len();
        let cached = sequence.blocks.len() * block_tokens;
        while sequence.blocks.len() < needed {
            let number = self.pool.take();
            sequence
                .blocks
                .push(number.expect("so many blocks are available"));
        }
        self.count_admission(sequence, cached);
        true
    }

    fn any_paused(&self) -> bool {
        self.running.iter().any(|s| s.paused)
    }

    fn count_admission(&mut self, sequence: &mut Sequence<F::Adapter>, cached: usize) {
        if sequence.admitted(cached) {
            let prompt = sequence.prompt_len();
            self.counts.prefix_queries += prompt as u64;
            self.counts.prefix_hits += cached.min(prompt) as u64;
        }
    }

    /// How many of a sequence's first blocks are in the pool already.
    fn cached_blocks(&self, sequence: &mut Sequence<F::Adapter>) -> usize {
        if !self.config.prefix_cache {
            return 0;
        }
        let block_tokens = self.capacity.block_tokens;
        let most = sequence.shareable(block_tokens);
        let prefixes = sequence.prefixes(most, block_tokens);
        let found = prefixes.iter().position(|p| self.pool.holders(p).is_none());
        found.unwrap_or(most)
    }

    /// How many of them nobody holds: they are not available once they are shared.
    fn unused_of(&self, sequence: &mut Sequence<F::Adapter>, shared: usize) -> usize {
        let prefixes = sequence.prefixes(shared, self.capacity.block_tokens);
        let unused = prefixes.iter().filter(|p| self.pool.holders(p) == Some(0));
        unused.count()
    }
}

/// Puts a sequence in its place by arrival.
fn queue<A>(waiting: &mut VecDeque<Sequence<A>>, sequence: Sequence<A>) {
    let at = waiting.partition_point(|other| other.arrival < sequence.arrival);
    waiting.insert(at, sequence);
}
