//! What a product would take, from the hardware's data sheet.
//!
//! **Units** bytes, clocks, microseconds. Nothing here was measured: it orders candidates, and a table takes its place.

use super::{Choice, Gpu};
use crate::Shape;

/// Bytes a microsecond that memory gives in practice: the best published of an FP8 product on an H100 (3.05 TB/s).
const MEMORY: f64 = 3.05e6;
/// Bytes a microsecond that one multiprocessor takes from memory at most: so that nearly all of them are needed.
const MEMORY_OF_ONE: f64 = 2.6e4;
/// Bytes a microsecond that the second-level cache gives one multiprocessor.
const CACHE_OF_ONE: f64 = 6.0e4;
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
    let slots_of_adapter = f64::from(rank.div_ceil(64));
    let multiprocessors = f64::from(gpu.multiprocessors);
    let (tile, split, tiles) = match choice {
        Choice::Prefill { tile, .. } => {
            let tiles = shape.m.div_ceil(tile.rows_a) * shape.n.div_ceil(tile.rows_b);
            (tile, 1.0, f64::from(tiles))
        }
        Choice::Decode { tile, split } => {
            let tiles = shape.n.div_ceil(tile.rows_a) * shape.m.div_ceil(tile.rows_b);
            (tile, f64::from(split), f64::from(tiles))
        }
        Choice::Plain(_) => return f64::INFINITY,
    };
    let (a, b) = (f64::from(tile.rows_a), f64::from(tile.rows_b));
    let blocks = tiles * split;
    let waves = (blocks / multiprocessors).ceil();
    let slots = (f64::from(shape.k_blocks()) / split).ceil() + slots_of_adapter;

    let multiply = a * b * 256.0 / TENSOR;
    let promote = a * b / PROMOTIONS;
    // One warp-group promotes while the other multiplies; alone it cannot.
    let clocks = match tile.groups {
        1 => multiply + promote,
        _ => multiply.max(promote) + promote * 0.25,
    };
    let active = blocks.min(multiprocessors);
    let slot = (a + b) * 128.0;
    let per_slot = (clocks / CLOCKS).max(slot / CACHE_OF_ONE);
    let computed = waves * slots * per_slot;

    // W is read once by all tokens of a wave; X mostly comes from the cache.
    let weights = f64::from(shape.n) * f64::from(shape.k + rank * 2);
    let others = f64::from(shape.m) * (f64::from(shape.k) + 2.0 * f64::from(shape.n));
    let read_again = match choice {
        Choice::Decode { tile, .. } => f64::from(shape.m.div_ceil(tile.rows_b)),
        _ => 1.0,
    };
    let memory = MEMORY.min(active * MEMORY_OF_ONE);
    // The last wave may be nearly empty, and memory idles then.
    let filled = blocks / (waves * multiprocessors.min(blocks.max(1.0)));
    let read = (weights * read_again + others) / memory / filled.clamp(0.5, 1.0);

    let join = if split > 1.0 {
        JOIN + 2.0 * blocks * a * b * 4.0 / MEMORY
    } else {
        0.0
    };
    computed.max(read) + waves.min(2.0) * START + join
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
            for choice in candidates(shape, false) {
                let time = microseconds(Gpu::H100, shape, 0, choice);
                assert!(time > floor, "{choice:?}: {time} below {floor}");
            }
        }
    }
}
