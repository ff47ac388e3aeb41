//! A sequence as a caller keeps it.

use xgraft_model::{KvCache, KvType, LoraAdapter, Model, Segment};

/// Positions of a block in these tests: small, so that sequences have many.
pub(crate) const BLOCK: usize = 4;

/// A cache of `blocks` blocks for a model.
pub(crate) fn cache(model: &Model, kind: KvType, blocks: usize) -> KvCache {
    KvCache::new(model.spec(), kind, blocks, BLOCK)
}

/// Tokens with their blocks and adapter.
pub(crate) struct Sequence<'a> {
    pub(crate) tokens: Vec<u32>,
    pub(crate) blocks: Vec<u32>,
    pub(crate) adapter: Option<&'a LoraAdapter>,
    /// Tokens that are in the cache.
    pub(crate) done: usize,
}

impl<'a> Sequence<'a> {
    pub(crate) fn new(tokens: &[u32], blocks: impl IntoIterator<Item = u32>) -> Self {
        Self {
            tokens: tokens.to_vec(),
            blocks: blocks.into_iter().collect(),
            adapter: None,
            done: 0,
        }
    }

    pub(crate) fn with(self, adapter: &'a LoraAdapter) -> Self {
        Self {
            adapter: Some(adapter),
            ..self
        }
    }

    /// The next `count` tokens as a segment that asks for `logits`.
    pub(crate) fn next(&self, count: usize, logits: usize) -> Segment<'_> {
        Segment {
            tokens: &self.tokens[self.done..self.done + count],
            first_position: self.done,
            blocks: &self.blocks,
            adapter: self.adapter,
            logits,
        }
    }
}

/// Logits of all tokens, computed in one piece.
pub(crate) fn all_logits(
    model: &Model,
    kind: KvType,
    tokens: &[u32],
    adapter: Option<&LoraAdapter>,
) -> Vec<f32> {
    let blocks = tokens.len().div_ceil(BLOCK) as u32;
    let mut sequence = Sequence::new(tokens, 0..blocks);
    sequence.adapter = adapter;
    let mut logits = Vec::new();
    let mut cache = cache(model, kind, blocks as usize);
    model.forward(
        &mut cache,
        &[sequence.next(tokens.len(), tokens.len())],
        &mut logits,
    );
    logits
}

/// The token with the largest logit.
pub(crate) fn best(logits: &[f32]) -> u32 {
    let largest = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    largest.expect("logits") as u32
}

/// The tokens that come after `prompt`, one by one.
pub(crate) fn greedy(model: &Model, kind: KvType, prompt: &[u32], steps: usize) -> Vec<u32> {
    let blocks = (prompt.len() + steps).div_ceil(BLOCK) as u32;
    let mut sequence = Sequence::new(prompt, 0..blocks);
    let (mut cache, mut logits) = (cache(model, kind, blocks as usize), Vec::new());
    for _ in 0..steps {
        let count = sequence.tokens.len() - sequence.done;
        model.forward(&mut cache, &[sequence.next(count, 1)], &mut logits);
        sequence.done += count;
        sequence.tokens.push(best(&logits));
    }
    sequence.tokens.split_off(prompt.len())
}
