//! Keys and values of past positions, in blocks.

use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use xgraft_matmul::{Coding, Paged};

use crate::spec::Spec;

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// Rounded to BF16, as serving engines do for a BF16 model.
    #[default]
    Bf16,
    /// As computed.
    F32,
}

impl KvType {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            KvType::Bf16 => 2,
            KvType::F32 => 4,
        }
    }

    fn coding(self) -> Coding<'static> {
        match self {
            KvType::Bf16 => Coding::Bf16,
            KvType::F32 => Coding::F32,
        }
    }
}

/// A pool of blocks, each of which holds the keys and values of some consecutive positions of one sequence in all layers.
///
/// Memory is taken from the system when a block is first written.
#[derive(Debug)]
pub struct KvCache {
    kind: KvType,
    blocks: usize,
    block_tokens: usize,
    kv_heads: usize,
    head_dim: usize,
    /// For each layer keys `[blocks, kv_heads, block_tokens, head_dim]`, then values alike.
    layers: Vec<[Vec<u8>; 2]>,
}

impl KvCache {
    /// A pool of `blocks` blocks of `block_tokens` positions.
    ///
    /// # Panics
    /// If either is 0.
    pub fn new(spec: &Spec, kind: KvType, blocks: usize, block_tokens: usize) -> KvCache {
        assert!(blocks > 0 && block_tokens > 0, "an empty cache");
        let bytes = blocks * block_tokens * spec.kv_heads * spec.head_dim * kind.bytes();
        KvCache {
            kind,
            blocks,
            block_tokens,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            layers: (0..spec.layers)
                .map(|_| [vec![0; bytes], vec![0; bytes]])
                .collect(),
        }
    }

    /// Blocks in the pool.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Positions of a block.
    pub fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Bytes of the whole pool.
    pub fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(Vec::len).sum()
    }

    /// Keeps the keys and values of one position.
    ///
    /// **Shapes** `keys` and `values` are `[kv_heads, head_dim]`.
    pub(crate) fn put(
        &mut self,
        layer: usize,
        blocks: &[u32],
        position: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let block = blocks[position / self.block_tokens] as usize;
        assert!(block < self.blocks, "block {block} of {}", self.blocks);
        for (at, all) in [keys, values].into_iter().enumerate() {
            for (head, row) in all.chunks(self.head_dim).enumerate() {
                let line = (block * self.kv_heads + head) * self.block_tokens
                    + position % self.block_tokens;
                let width = self.head_dim * self.kind.bytes();
                let to = &mut self.layers[layer][at][line * width..][..width];
                self.kind.encode(row, to);
            }
        }
    }

    /// The keys, and the values, of one head in these blocks.
    pub(crate) fn head(&self, layer: usize, head: usize, blocks: &[u32]) -> [Paged<'_>; 2] {
        let bytes = self.block_tokens * self.head_dim * self.kind.bytes();
        let at = |block: &u32| (*block as usize * self.kv_heads + head) * bytes;
        self.layers[layer].each_ref().map(|data| {
            let pages = blocks.iter().map(|block| &data[at(block)..][..bytes]);
            Paged::new(pages, self.block_tokens, self.head_dim, self.kind.coding())
        })
    }
}

impl KvType {
    fn encode(self, from: &[f32], to: &mut [u8]) {
        match self {
            KvType::F32 => {
                for (to, x) in to.as_chunks_mut::<4>().0.iter_mut().zip(from) {
                    *to = x.to_le_bytes();
                }
            }
            KvType::Bf16 => {
                let mut rounded = [bf16::ZERO; 64];
                for (to, from) in to.chunks_mut(128).zip(from.chunks(64)) {
                    let rounded = &mut rounded[..from.len()];
                    rounded.convert_from_f32_slice(from);
                    for (to, x) in to.as_chunks_mut::<2>().0.iter_mut().zip(rounded) {
                        *to = x.to_le_bytes();
                    }
                }
            }
        }
    }
}
