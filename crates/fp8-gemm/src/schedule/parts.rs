//! Who computes which slots of which tile, and so what of a sum is added up at once.

use std::ops::Range;

use super::{StreamK, Tiles};
use crate::{BLOCK, Shape};

/// Slots of a sum: its blocks of k, and one for every 64 of an adapter's rank.
pub const fn slots(shape: Shape, rank: u32) -> u32 {
    shape.k_blocks() + rank.div_ceil(BLOCK / 2)
}

/// The tiles of a product over workers: blocks of the grid, or clusters of them.
///
/// The first tiles are cut: stream-K gives each worker as many of their slots as any other. The rest are whole, in turn, so that
/// workers are on neighbouring tiles at a time. The kernels' `Work`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Tiles in their order.
    pub tiles: Tiles,
    /// Slots of a tile.
    pub slots: u32,
    /// Workers, each with something to do.
    pub workers: u32,
    /// How many tiles are cut.
    pub cut: u32,
}

/// How the sums of a product are cut into parts, each summed from zero, which are then added in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parts {
    /// Each in one.
    Whole,
    /// As the tiles are.
    Cut {
        /// Rows of W and tokens in a tile.
        sides: (u32, u32),
        /// Tiles of m in a band.
        band: u32,
        /// Workers.
        workers: u32,
    },
}

impl Work {
    /// Of a product in tiles of so many rows of W and tokens, all whole.
    pub fn whole(shape: Shape, rank: u32, sides: (u32, u32), band: u32, workers: u32) -> Self {
        let (rows, tokens) = sides;
        let m = shape.m.div_ceil(tokens);
        let tiles = Tiles {
            m,
            n: shape.n.div_ceil(rows),
            band: band.min(m),
        };
        Self {
            tiles,
            slots: slots(shape, rank),
            workers: workers.min(tiles.count()),
            cut: 0,
        }
    }

    /// The same with as many tiles cut as leave whole ones for everybody: what is more than a multiple of the workers, and one round
    /// of them more, so that nobody has less than a tile of it.
    pub fn cut(shape: Shape, rank: u32, sides: (u32, u32), band: u32, workers: u32) -> Self {
        let whole = Self::whole(shape, rank, sides, band, workers);
        let tiles = whole.tiles.count();
        if tiles.is_multiple_of(workers) {
            return whole;
        }
        let cut = tiles.min(tiles % workers + workers);
        let most = u64::from(cut) * u64::from(whole.slots);
        Self {
            workers: u64::from(workers).min(most) as u32,
            cut,
            ..whole
        }
    }

    /// The tiles that are cut.
    pub const fn stream(&self) -> StreamK {
        StreamK {
            tiles: self.cut,
            slots: self.slots,
            workers: self.workers,
        }
    }

    /// Slots of the worker with most of them.
    pub fn busiest(&self) -> u64 {
        let whole = (self.tiles.count() - self.cut).div_ceil(self.workers);
        let cut = self.stream().total().div_ceil(self.workers.into());
        u64::from(whole) * u64::from(self.slots) + cut
    }
}

impl Parts {
    /// The slots of each part of an element of Y.
    pub fn of(self, shape: Shape, rank: u32, (i, j): (u32, u32)) -> Vec<Range<u32>> {
        let whole = std::iter::once(0..slots(shape, rank));
        let Self::Cut {
            sides,
            band,
            workers,
        } = self
        else {
            return whole.collect();
        };
        let work = Work::cut(shape, rank, sides, band, workers);
        let tile = work.tiles.index((i / sides.1, j / sides.0));
        if tile < work.cut {
            work.stream().parts(tile).collect()
        } else {
            whole.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_many_workers_as_tiles_have_whole_ones_and_twice_as_many_have_halves() {
        let shape = Shape::new(9, 300, 1024).expect("not empty");
        let parts = |workers, place| {
            let parts = Parts::Cut {
                sides: (128, 8),
                band: 2,
                workers,
            };
            parts.of(shape, 64, place)
        };
        for place in [(0, 0), (8, 0), (8, 299)] {
            assert_eq!(parts(6, place), Parts::Whole.of(shape, 64, place));
            assert_eq!(parts(12, place), [0..4, 4..9]);
        }
    }

    #[test]
    fn the_tiles_of_a_large_layer_are_read_by_all_multiprocessors_alike() {
        // gate_up of Qwen3-32B: 400 tiles of 40 blocks of k would be 3.03 rounds of whole tiles, 160 slots for the busiest.
        let shape = Shape::new(1, 51_200, 5120).expect("not empty");
        let work = Work::cut(shape, 0, (128, 8), 1, 132);
        assert_eq!((work.cut, work.busiest()), (136, 2 * 40 + 42));
    }

    proptest! {
        #[test]
        fn nobody_has_much_more_than_anybody(
            m in 1u32..3000, n in 1u32..3000, k in 1u32..3000, workers in 1u32..200,
        ) {
            let shape = Shape::new(m, n, k).expect("not empty");
            let work = Work::cut(shape, 0, (128, 64), 8, workers);
            let all = u64::from(work.tiles.count()) * u64::from(work.slots);
            prop_assert!(work.busiest() * u64::from(work.workers) < all + u64::from(work.workers));
            prop_assert!((work.tiles.count() - work.cut).is_multiple_of(work.workers));
        }
    }
}
