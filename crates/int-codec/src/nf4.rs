//! The 4-bit NormalFloat: sixteen levels at quantiles of the normal distribution.

/// NF4, for weights divided by the largest magnitude of their block.
///
/// The levels are symmetric about zero only nearly: zero itself is a level, eight lie above it and seven below.
///
/// **Source** Dettmers et al. 2023 (`QLoRA`, arXiv 2305.14314), appendix E, which lists the values.
#[derive(Clone, Copy, Debug)]
pub struct Nf4;

impl Nf4 {
    /// The levels, ascending; a code is an index.
    pub const LEVELS: [f32; 16] = [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ];

    /// The code of the nearest level; of two that are equally near the lower one. NaN gives 0.
    pub fn encode(x: f32) -> u8 {
        let mut code = 0;
        for pair in Self::LEVELS.windows(2) {
            code += u8::from(x > f32::midpoint(pair[0], pair[1]));
        }
        code
    }

    /// The level of a code, of which the lower four bits count.
    pub const fn decode(code: u8) -> f32 {
        Self::LEVELS[(code & 0xf) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_its_own_nearest() {
        for (code, level) in (0..).zip(Nf4::LEVELS) {
            assert_eq!(Nf4::encode(level), code);
            assert_eq!(Nf4::decode(code), level);
        }
    }

    #[test]
    fn no_other_level_is_nearer() {
        for i in -1100..=1100 {
            let x = i as f32 / 1000.0;
            let found = (Nf4::decode(Nf4::encode(x)) - x).abs();
            let best = Nf4::LEVELS
                .iter()
                .map(|l| (l - x).abs())
                .fold(f32::MAX, f32::min);
            assert!(found <= best, "{x}");
        }
        assert_eq!(Nf4::encode(f32::NAN), 0);
    }
}
