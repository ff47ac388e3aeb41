//! The pool's blocks: who holds which, and which are kept for prompts that begin alike.

mod prefix;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

pub(crate) use prefix::Prefix;

/// Counts the holders of every block of the model's pool, and finds full blocks by what they hold.
///
/// A block is *free*, *used* by one sequence or more, or *cached*: nobody holds it, but it is full and can be found.
/// Cached blocks are given away, the one unused for longest first, when no block is free. Their numbers add up to the
/// total at any time.
///
/// Only full blocks can be found or shared, and nobody writes into a full block, so that sharing needs no copy.
#[derive(Debug)]
pub(crate) struct BlockPool {
    blocks: Vec<Block>,
    free: Vec<u32>,
    found: HashMap<Prefix, u32>,
    /// Cached blocks by the time when they were let go.
    cached: BTreeMap<u64, u32>,
    clock: u64,
}

#[derive(Debug, Clone, Default)]
struct Block {
    holders: u32,
    content: Option<Content>,
    /// When the last holder let go; the key in `cached`.
    since: u64,
}

/// What a full block holds.
#[derive(Debug, Clone)]
struct Content {
    prefix: Prefix,
    generation: u64,
}

impl BlockPool {
    pub(crate) fn new(total: usize) -> Self {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        Self {
            blocks: vec![Block::default(); total as usize],
            free: (0..total).rev().collect(),
            found: HashMap::new(),
            cached: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Blocks that [`BlockPool::take`] can give: free and cached ones.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    /// Blocks that somebody holds.
    pub(crate) fn used(&self) -> usize {
        self.blocks.len() - self.available()
    }

    /// Times at which a block may have become available; while it stands still, nothing more fits than before.
    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// A block to write into, if there is one: a free one, else the cached one that was let go first.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let number = self.free.pop().or_else(|| self.evict())?;
        self.blocks[number as usize].holders = 1;
        Some(number)
    }

    fn evict(&mut self) -> Option<u32> {
        let (_, number) = self.cached.pop_first()?;
        self.unname(number);
        Some(number)
    }

    /// How many hold the full block with that content, if it is in the pool.
    pub(crate) fn holders(&self, prefix: &Prefix) -> Option<u32> {
        let number = *self.found.get(prefix)?;
        Some(self.blocks[number as usize].holders)
    }

    /// One more holder of the full block with that content, if it is in the pool.
    pub(crate) fn share(&mut self, prefix: &Prefix) -> Option<u32> {
        let number = *self.found.get(prefix)?;
        let block = &mut self.blocks[number as usize];
        if block.holders == 0 {
            self.cached.remove(&block.since);
        }
        block.holders += 1;
        Some(number)
    }

    /// From now on a block that is held, full and computed can be found; not if another one with that content can already.
    pub(crate) fn publish(&mut self, number: u32, prefix: &Prefix, generation: u64) {
        let block = &mut self.blocks[number as usize];
        if block.content.is_none() && !self.found.contains_key(prefix) {
            let prefix = prefix.clone();
            self.found.insert(prefix.clone(), number);
            block.content = Some(Content { prefix, generation });
        }
    }

    /// One holder less.
    pub(crate) fn release(&mut self, number: u32) {
        let block = &mut self.blocks[number as usize];
        debug_assert!(block.holders > 0, "block {number} is released twice");
        block.holders -= 1;
        if block.holders == 0 {
            self.clock += 1;
            block.since = self.clock;
            if block.content.is_some() {
                self.cached.insert(self.clock, number);
            } else {
                self.free.push(number);
            }
        }
    }

    /// No block of that adapter generation can be found any more; those that nobody holds become free.
    pub(crate) fn forget(&mut self, generation: u64) {
        for number in 0..self.blocks.len() {
            let block = &self.blocks[number];
            let content = block.content.as_ref();
            if content.is_none_or(|content| content.generation != generation) {
                continue;
            }
            let (unused, since) = (block.holders == 0, block.since);
            self.unname(number as u32);
            if unused {
                self.cached.remove(&since);
                self.free.push(number as u32);
            }
        }
    }

    fn unname(&mut self, number: u32) {
        if let Some(content) = self.blocks[number as usize].content.take() {
            self.found.remove(&content.prefix);
        }
    }

    /// Blocks that can be found.
    #[cfg(test)]
    pub(crate) fn findable(&self) -> usize {
        self.found.len()
    }

    /// Checks what must always hold, against the blocks that each sequence says it holds.
    ///
    /// # Panics
    /// If it does not hold.
    #[cfg(test)]
    pub(crate) fn check<'a>(&self, held: impl Iterator<Item = &'a [u32]>) {
        let mut holders = vec![0; self.blocks.len()];
        held.flatten().for_each(|&n| holders[n as usize] += 1);
        let counted: Vec<u32> = self.blocks.iter().map(|block| block.holders).collect();
        assert_eq!(counted, holders, "holders of each block");
        let used = holders.iter().filter(|&&n| n > 0).count();
        assert_eq!(
            used + self.free.len() + self.cached.len(),
            self.blocks.len()
        );
        for &number in self.free.iter().chain(self.cached.values()) {
            assert_eq!(holders[number as usize], 0, "block {number} is held");
        }
        let named = |&n: &u32| self.blocks[n as usize].content.is_some();
        assert!(!self.free.iter().any(named), "a free block can be found");
        assert!(self.cached.values().all(named), "a cached one cannot");
        for (prefix, &number) in &self.found {
            let content = self.blocks[number as usize].content.as_ref();
            assert_eq!(content.map(|content| &content.prefix), Some(prefix));
        }
    }
}
