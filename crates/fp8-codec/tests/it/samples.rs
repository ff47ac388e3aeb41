//! Numbers at which an encoder can go wrong.

use half::bf16;
use xgraft_fp8_codec::{Codec, Format};

/// Both formats.
pub(crate) const FORMATS: [Format; 2] = [Format::E4m3, Format::E5m2];

/// Every implementation of this machine but the one that defines the results, and each once more writing past the cache.
pub(crate) fn implementations() -> impl Iterator<Item = Codec> {
    let special = Codec::available().skip(1);
    special.flat_map(|codec| [codec, codec.streaming()])
}

/// Every finite value of the format, every midpoint of two neighbours, and the f32 numbers around both; zeros, infinities,
/// NaNs and the extremes of f32; in both signs.
pub(crate) fn critical(format: Format) -> Vec<f32> {
    let mut values: Vec<f64> = (0..0x80)
        .map(|code| f64::from(format.decode(code)))
        .filter(|value| value.is_finite())
        .collect();
    let last_step = values[values.len() - 1] - values[values.len() - 2];
    values.push(values[values.len() - 1] + last_step);
    let midpoints: Vec<f64> = values.windows(2).map(|w| (w[0] + w[1]) / 2.0).collect();
    let mut bits = vec![
        0,
        1,
        0x007f_ffff,
        0x0080_0000,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7f80_0001,
        0x7fc0_0000,
        0x7fff_ffff,
    ];
    for value in values.into_iter().chain(midpoints) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "values of few bits are exact in f32"
        )]
        let center = (value as f32).to_bits();
        bits.extend(center.saturating_sub(3)..=center + 3);
    }
    let both_signs = bits.iter().flat_map(|&bits| [bits, bits | 1 << 31]);
    both_signs.map(f32::from_bits).collect()
}

/// Every bf16 there is.
pub(crate) fn all_bf16() -> Vec<bf16> {
    (0..=u16::MAX).map(bf16::from_bits).collect()
}

/// Scales that are powers of two, that are not, that make quotients subnormal or huge, and the extremes.
pub(crate) fn scales() -> Vec<f32> {
    let exponents = [-149, -140, -126, -125, -60, -9, -1, 0, 1, 7, 60, 120, 127];
    let mut scales: Vec<f32> = exponents
        .iter()
        .flat_map(|&e| [1.0, 1.0 + f32::EPSILON, 1.5, 2.0 - f32::EPSILON].map(|m| m * 2f32.powi(e)))
        .chain([3.7e-5, 0.000_123, 0.01, 0.037, 448.0, 57344.0])
        .filter(|scale| *scale > 0.0 && scale.is_finite())
        .collect();
    scales.sort_by(f32::total_cmp);
    scales.dedup();
    scales
}

/// Pseudo-random bits: `SplitMix64` of a counter.
pub(crate) fn random_bits(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Any f32 bit patterns.
pub(crate) fn random_f32(seed: u64, count: usize) -> Vec<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    let bits = random_bits(seed).map(|bits| bits as u32);
    bits.take(count).map(f32::from_bits).collect()
}
