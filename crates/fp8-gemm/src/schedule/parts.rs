//! What of a sum is added up at once.

use std::ops::Range;

use super::StreamK;
use crate::{BLOCK, Shape};

/// How the sums of a product are cut into parts, each summed from zero, which are then added in their order.
///
/// A sum has slots: its blocks of k, and one for every 64 of an adapter's rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parts {
    /// Each in one.
    Whole,
    /// By stream-K, over so many blocks of the grid.
    StreamK {
        /// Rows of W in a tile.
        rows: u32,
        /// Tokens in a tile.
        tokens: u32,
        /// Blocks of the grid.
        blocks: u32,
    },
}

/// Slots of a sum.
pub const fn slots(shape: Shape, rank: u32) -> u32 {
    shape.k_blocks() + rank.div_ceil(BLOCK / 2)
}

impl StreamK {
    /// Of a product in tiles of so many rows of W and tokens. Tiles of neighbouring tokens follow each other, and there is no block
    /// without a slot.
    pub fn of_product(shape: Shape, rank: u32, (rows, tokens): (u32, u32), blocks: u32) -> Self {
        let tiles = shape.n.div_ceil(rows) * shape.m.div_ceil(tokens);
        let slots = slots(shape, rank);
        let total = u64::from(tiles) * u64::from(slots);
        let blocks = u64::from(blocks).min(total) as u32;
        Self {
            tiles,
            slots,
            blocks,
        }
    }
}

impl Parts {
    /// The slots of each part of an element of Y.
    pub fn of(self, shape: Shape, rank: u32, (i, j): (u32, u32)) -> Vec<Range<u32>> {
        match self {
            Self::Whole => std::iter::once(0..slots(shape, rank)).collect(),
            Self::StreamK {
                rows,
                tokens,
                blocks,
            } => {
                let stream = StreamK::of_product(shape, rank, (rows, tokens), blocks);
                let tile = j / rows * shape.m.div_ceil(tokens) + i / tokens;
                stream.parts(tile).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_blocks_as_tiles_are_whole_tiles_and_twice_as_many_halves() {
        let shape = Shape::new(9, 300, 1024).expect("not empty");
        let parts = |blocks, place| {
            let parts = Parts::StreamK {
                rows: 128,
                tokens: 8,
                blocks,
            };
            parts.of(shape, 64, place)
        };
        for place in [(0, 0), (8, 0), (8, 299)] {
            assert_eq!(parts(6, place), Parts::Whole.of(shape, 64, place));
            assert_eq!(parts(12, place), [0..4, 4..9]);
        }
    }
}
