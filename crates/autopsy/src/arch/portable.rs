//! The definition, for every machine. One short loop for each sum: in this form compilers use whole vectors, which they do
//! not when the loops are one. A tile is in the first-level cache, so reading it again is cheap.

use super::{Bf16Lanes, LANES, Lanes, TileSums, bf16_extremes};

/// Adds a term of a number to a sum.
type Term = fn(f32, f32) -> f32;

/// Those of its powers.
const POWERS: [Term; 4] = [
    |sum, x| sum + x,
    |sum, x| x.mul_add(x, sum),
    |sum, x| (x * x).mul_add(x, sum),
    |sum, x| (x * x).mul_add(x * x, sum),
];

pub(super) fn sums(tile: &[Lanes]) -> TileSums {
    let sum = |term: Term| halves(fold(tile, 0.0, term).map(f64::from));
    let low = fold(tile, f32::INFINITY, |low, x| if x < low { x } else { low });
    let high = fold(
        tile,
        f32::NEG_INFINITY,
        |high, x| {
            if x > high { x } else { high }
        },
    );
    let zero = |x: &f32| u32::from(*x == 0.0);
    TileSums {
        powers: POWERS.map(sum),
        min: low.into_iter().fold(f32::INFINITY, f32::min),
        max: high.into_iter().fold(f32::NEG_INFINITY, f32::max),
        zeros: tile.as_flattened().iter().map(zero).sum(),
    }
}

pub(super) fn sums_bf16(rows: &[&[Bf16Lanes]]) -> Option<TileSums> {
    let (mut even, mut odd) = (Vec::new(), Vec::new());
    let (mut signed, mut unsigned, mut zeros) = (i16::MIN, 0, 0);
    for lanes in rows.iter().copied().flatten() {
        let bits = lanes.as_chunks().0;
        for bits in bits.iter().map(|b| u16::from_le_bytes(*b)) {
            signed = signed.max(bits.cast_signed());
            unsigned = unsigned.max(bits);
            zeros += u32::from(bits << 1 == 0);
        }
        let mut numbers = [0f32; 2 * LANES];
        widen_bf16(lanes, &mut numbers);
        even.push(std::array::from_fn(|i| numbers[2 * i]));
        odd.push(std::array::from_fn(|i| numbers[2 * i + 1]));
    }
    let (min, max) = bf16_extremes(signed, unsigned)?;
    let sum = |term: Term| {
        let (even, odd) = (fold(&even, 0.0, term), fold(&odd, 0.0, term));
        halves(std::array::from_fn(|i| {
            f64::from(even[i]) + f64::from(odd[i])
        }))
    };
    Some(TileSums {
        powers: POWERS.map(sum),
        min,
        max,
        zeros,
    })
}

pub(super) fn products(xs: &[Lanes], ys: &[Lanes]) -> [f64; 6] {
    let sum = |term: fn(f32, f32, f32) -> f32| {
        let mut lanes = [0f32; LANES];
        for (x, y) in xs.iter().zip(ys) {
            for i in 0..LANES {
                lanes[i] = term(lanes[i], x[i], y[i]);
            }
        }
        halves(lanes.map(f64::from))
    };
    [
        sum(|sum, x, _| sum + x),
        sum(|sum, _, y| sum + y),
        sum(|sum, x, _| x.mul_add(x, sum)),
        sum(|sum, _, y| y.mul_add(y, sum)),
        sum(|sum, x, y| x.mul_add(y, sum)),
        sum(|sum, x, y| (x - y).mul_add(x - y, sum)),
    ]
}

#[inline(always)]
fn fold(tile: &[Lanes], start: f32, step: impl Fn(f32, f32) -> f32) -> Lanes {
    let mut lanes = [start; LANES];
    for x in tile {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], x[i]);
        }
    }
    lanes
}

/// The sum of the lanes: the upper half is added to the lower one until one is left.
fn halves(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

// These are compiled again for each instruction set, where compilers know best what to do with them.

#[inline(always)]
pub(super) fn widen_bf16(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
    }
}

#[inline(always)]
pub(super) fn scale(numbers: &mut [f32], factor: f32) {
    for x in numbers {
        *x *= factor;
    }
}

#[inline(always)]
pub(super) fn count_magnitude(bytes: &[u8], code: u8) -> u64 {
    let count = |part: &[u8]| -> u8 { part.iter().map(|b| u8::from(b & 0x7f == code)).sum() };
    // At most 128 of them at a time, so that a byte counts them.
    bytes.chunks(128).map(|part| u64::from(count(part))).sum()
}
