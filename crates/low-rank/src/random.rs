//! Random numbers that are a function of seed and position: the same for every order of evaluation.

use crate::panel::Panel;

/// A panel of independent numbers of mean 0 and variance 1, close to normal.
///
/// Each is the sum of four uniform numbers of 16 bits, which is exact in f32, so that no platform's logarithm or cosine
/// has a say in the result. The range finder needs no more of the distribution than that its projections on any fixed
/// direction spread, which they do.
pub(crate) fn panel(rows: usize, width: usize, seed: u64) -> Panel {
    let data = (0..(rows * width) as u64)
        .map(|i| almost_normal(mix(seed, i)))
        .collect();
    Panel { rows, width, data }
}

/// A number of mean 0 and variance 1 out of 64 independent bits: the sum of the four 16-bit digits, shifted and scaled.
///
/// Exact in f32, so the same on every platform; bounded by 3.47 in magnitude, as a normal number is not.
pub fn almost_normal(bits: u64) -> f32 {
    const MEAN: f32 = 4.0 * 32767.5;
    // Standard deviation of a sum of four uniform integers below 2^16: 65536 * sqrt(4 / 12).
    const DEVIATION: f32 = 37_837.228;
    let sum: u32 = (0..4)
        .map(|digit| u32::from((bits >> (16 * digit)) as u16))
        .sum();
    (sum as f32 - MEAN) / DEVIATION
}

/// A number of 64 well mixed bits for each seed and position.
///
/// **Source** the output function of SplitMix64 (Steele, Lea, Flood 2014), twice.
pub fn mix(seed: u64, position: u64) -> u64 {
    finish(
        finish(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))
            ^ position.wrapping_mul(0xd134_2543_de82_ef95),
    )
}

fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
