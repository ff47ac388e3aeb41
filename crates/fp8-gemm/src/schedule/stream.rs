//! Stream-K.

use std::ops::Range;

/// The slots of tiles in a row, cut into one range for each worker, all as long as each other or one longer.
///
/// So every worker has as much to do as any other, whatever the number of tiles. Where a cut is not a tile's end, workers share the
/// tile, and their parts are added in the order of the workers.
///
/// **Source** Osama et al., "Stream-K: Work-centric Parallel Decomposition for Dense Matrix-Matrix Multiplication on the GPU",
/// `PPoPP` 2023.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamK {
    /// Tiles.
    pub tiles: u32,
    /// Slots of a tile: blocks of k, and what an adapter adds.
    pub slots: u32,
    /// Blocks of the grid or clusters of them, at most as many as slots of all tiles.
    pub workers: u32,
}

impl StreamK {
    /// Slots of all tiles.
    pub const fn total(&self) -> u64 {
        self.tiles as u64 * self.slots as u64
    }

    /// Where a worker's range begins. The kernels' `stream_cut`.
    pub const fn cut(&self, worker: u32) -> u64 {
        (worker as u128 * self.total() as u128 / self.workers as u128) as u64
    }

    /// The worker whose range has a slot. The kernels' `stream_worker`.
    pub const fn worker_of(&self, at: u64) -> u32 {
        (((at as u128 + 1) * self.workers as u128 - 1) / self.total() as u128) as u32
    }

    /// The slots of a tile, cut among the workers that have them.
    pub fn parts(&self, tile: u32) -> impl Iterator<Item = Range<u32>> {
        let begin = u64::from(tile) * u64::from(self.slots);
        let end = begin + u64::from(self.slots);
        let workers = self.worker_of(begin)..=self.worker_of(end - 1);
        let this = *self;
        workers.map(move |worker| {
            let from = this.cut(worker).max(begin) - begin;
            let to = this.cut(worker + 1).min(end) - begin;
            from as u32..to as u32
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream() -> impl Strategy<Value = StreamK> {
        (1u32..500, 1u32..300, 1u32..200).prop_map(|(tiles, slots, workers)| StreamK {
            tiles,
            slots,
            workers: workers.min(tiles * slots),
        })
    }

    proptest! {
        #[test]
        fn every_slot_of_a_tile_is_in_exactly_one_part_and_in_order(stream in stream(), tile in 0u32..500) {
            let tile = tile % stream.tiles;
            let all: Vec<u32> = stream.parts(tile).flatten().collect();
            prop_assert_eq!(all, (0..stream.slots).collect::<Vec<_>>());
            prop_assert!(stream.parts(tile).all(|part| !part.is_empty()));
        }

        #[test]
        fn every_worker_has_as_much_as_any_other_and_its_slots_are_its_own(stream in stream(), at in 0u64..150_000) {
            let lens: Vec<u64> = (0..stream.workers).map(|worker| stream.cut(worker + 1) - stream.cut(worker)).collect();
            let (least, most) = (lens.iter().min(), lens.iter().max());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| *least > 0 && most - least <= 1));
            let at = at % stream.total();
            let worker = stream.worker_of(at);
            prop_assert!((stream.cut(worker)..stream.cut(worker + 1)).contains(&at));
        }

        /// What the kernel keeps parts and counters by.
        #[test]
        fn a_worker_shares_at_most_its_first_tile_and_one_that_it_begins(stream in stream()) {
            for worker in 0..stream.workers {
                let (from, to) = (stream.cut(worker), stream.cut(worker + 1));
                let slots = u64::from(stream.slots);
                let tiles = from / slots..=(to - 1) / slots;
                let begun = tiles.filter(|tile| tile * slots >= from && (tile + 1) * slots > to);
                prop_assert!(begun.count() <= 1);
            }
        }
    }
}
