//! Uniform numbers that are a function of seed, choice and position.

/// The number in [0, 1) that belongs to a token: the `position`-th of the `choice`-th output of a request.
///
/// A multiple of 2⁻⁵³. It depends on nothing else, so that a token is drawn alike in any batch, after a preemption, and
/// on a server that goes on where another one stopped.
///
/// **Source** the output function of SplitMix64 (Steele, Lea, Flood 2014) over each key in turn.
pub(crate) fn uniform(seed: u64, choice: u32, position: usize) -> f64 {
    let mut state = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
    state = mix(state ^ u64::from(choice).wrapping_mul(0xd134_2543_de82_ef95));
    state = mix(state ^ (position as u64).wrapping_mul(0xaf25_1af3_b0f0_25b5));
    (state >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// A bijection of 64 bits in which every bit of the result depends on every bit of the argument.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of numbers in 16 equal parts of [0, 1); a fair share is within five standard deviations.
    fn assert_even(numbers: impl Iterator<Item = f64>) {
        let mut counts = [0_i32; 16];
        let mut n = 0;
        for number in numbers {
            counts[(number * 16.0) as usize] += 1;
            n += 1;
        }
        let (mean, deviation) = (f64::from(n) / 16.0, (f64::from(n) * 15.0 / 256.0).sqrt());
        for count in counts {
            assert!(
                (f64::from(count) - mean).abs() < 5.0 * deviation,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn numbers_are_even_along_every_key() {
        assert_even((0..100_000).map(|i| uniform(7, 0, i)));
        assert_even((0..100_000).map(|i| uniform(7, i, 3)));
        assert_even((0..100_000).map(|i| uniform(i, 0, 0)));
    }

    #[test]
    fn numbers_of_the_first_release_are_kept() {
        // Another server must draw the same tokens: these never change.
        assert_eq!(uniform(0, 0, 0).to_bits(), FIRST[0]);
        assert_eq!(uniform(u64::MAX, 3, 32_768).to_bits(), FIRST[1]);
    }

    const FIRST: [u64; 2] = [0x3fc9_ff45_ea7c_e2bc, 0x3fde_b935_d4ba_9448];
}
