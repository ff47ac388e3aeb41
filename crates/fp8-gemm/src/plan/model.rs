//! What a product would take, from the hardware's data sheet.
//!
//! **Units** bytes, clocks, microseconds. Nothing here was measured: it orders candidates, and a table takes its place.

use super::{Choice, Gpu};
use crate::{
    Shape,
    schedule::{Tiles, Work},
};

/// Bytes a microsecond that memory gives in practice: the best published of an FP8 product on an H100 (3.05 TB/s).
const MEMORY: f64 = 3.05e6;
/// Bytes a microsecond that one multiprocessor takes from memory at most: so that nearly all of them are needed.
const MEMORY_OF_ONE: f64 = 2.6e4;
/// Bytes a microsecond that the second-level cache gives one multiprocessor.
const CACHE_OF_ONE: f64 = 6.0e4;
/// Bytes that a multiprocessor reads from or writes to shared memory in a clock.
const SHARED: f64 = 128.0;
/// Bytes that the second-level cache keeps of W: its 50 MB, less than all because of what else goes through it.
const CACHE: f64 = 36e6;
/// Clocks a microsecond under load.
const CLOCKS: f64 = 1500.0;
/// FP8 operations (a product and a sum are two) a clock and multiprocessor.
const TENSOR: f64 = 8192.0;
/// Fused multiply-adds of f32 a clock and multiprocessor.
const PROMOTIONS: f64 = 128.0;
/// What a block takes before its first slot is there and after its last, and what a launch takes.
const START: f64 = 2.0;
/// What adding parts takes beside their bytes.
const JOIN: f64 = 1.5;

/// The time of a product by a choice; endless for the readable kernel, which is only taken where nothing else can be.
pub fn microseconds(gpu: Gpu, shape: Shape, rank: u32, choice: Choice) -> f64 {
    let multiprocessors = gpu.multiprocessors;
    let (tile, work, together) = match choice {
        Choice::Prefill { tile, band, cut } => {
            let sides = (tile.rows_b * tile.cluster, tile.rows_a);
            let workers = (multiprocessors / tile.cluster).max(1);
            let work = match cut {
                true => Work::cut(shape, rank, sides, band, workers),
                false => Work::whole(shape, rank, sides, band, workers),
            };
            (tile, work, tile.cluster)
        }
        Choice::Decode { tile, blocks } => {
            let sides = (tile.rows_a, tile.rows_b);
            (tile, Work::cut(shape, rank, sides, u32::MAX, blocks), 1)
        }
        Choice::Plain(_) => return f64::INFINITY,
    };
    let blocks = work.workers * together;
    let active = blocks.min(multiprocessors);
    let busiest = work.busiest() as f64 * f64::from(blocks.div_ceil(multiprocessors));
    // Tiles of the same rows of W follow each other, and find them in the cache if those of all blocks fit.
    let Tiles { m, n, .. } = work.tiles;
    let rows = f64::from(work.workers.div_ceil(work.tiles.band).min(n)) * f64::from(shape.n)
        / f64::from(n);
    let fit = rows * f64::from(shape.k) <= CACHE;
    let w_read = f64::from(if fit { m.div_ceil(work.tiles.band) } else { m });
    let [a, b, active] = [tile.rows_a, tile.rows_b, active].map(f64::from);

    let multiply = a * b * 256.0 / TENSOR;
    let promote = a * b / PROMOTIONS;
    // Each 64 rows of A are multiplied by all of B, four times 32 bytes of either; before, TMA wrote both.
    let shared = (a / 64.0 * (64.0 + b) + a + b) * 128.0 / SHARED;
    // One warp-group promotes while the other multiplies; alone it cannot.
    let clocks = match tile.groups {
        1 => multiply + promote,
        _ => multiply.max(promote) + promote * 0.25,
    };
    let from_cache = (a / f64::from(tile.cluster) + b) * 128.0;
    let per_slot = (clocks.max(shared) / CLOCKS).max(from_cache / CACHE_OF_ONE);
    let computed = busiest * per_slot;

    let weights = f64::from(shape.n) * f64::from(shape.k + rank * 2) * w_read;
    let others = f64::from(shape.m) * (f64::from(shape.k) + 2.0 * f64::from(shape.n));
    let read = (weights + others) / MEMORY.min(active * MEMORY_OF_ONE);
    // Whoever has no slot left waits for those that have.
    let all = f64::from(work.slots) * f64::from(work.tiles.count());
    let idle = busiest * f64::from(work.workers) / all;
    // Parts go to the second-level cache and come back, two of a block.
    let join = if work.cut > 0 {
        JOIN + 2.0 * a * b * 8.0 / CACHE_OF_ONE
    } else {
        0.0
    };
    computed.max(read * idle.clamp(1.0, 2.0)) + START + join
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::candidates;

    #[test]
    fn no_guess_is_faster_than_the_hardware() {
        for (m, n, k) in [(1, 5120, 25600), (64, 10240, 5120), (4096, 51200, 5120)] {
            let shape = Shape::new(m, n, k).expect("not empty");
            let bytes = f64::from(n) * f64::from(k);
            let operations = 2.0 * bytes * f64::from(m);
            let floor = (bytes / 3.35e6).max(operations / 1979e6);
            for choice in candidates(Gpu::H100, shape, 0) {
                let time = microseconds(Gpu::H100, shape, 0, choice);
                assert!(time > floor, "{choice:?}: {time} below {floor}");
            }
        }
    }
}
