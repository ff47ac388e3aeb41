//! The [`passes`] compiled for the instruction sets of x86-64.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls of functions that need AVX2 or AVX-512, where the processor has them"
    )
)]

use super::passes::{self, Weigh};
use crate::engine::TokenId;

/// Instructions that this processor has. Every function gives the same bits on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Isa(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Base,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// All that this processor has, the best one last.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self(Level::Base)];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            all.extend(avx2.then_some(Self(Level::Avx2)));
            all.extend((avx2 && avx512).then_some(Self(Level::Avx512)));
        }
        all
    }
}

impl Default for Isa {
    /// The best one.
    fn default() -> Self {
        Self::all().pop().unwrap_or(Self(Level::Base))
    }
}

/// Methods that are the functions of [`passes`] of those names.
macro_rules! compiled {
    ($($name:ident($($arg:ident: $Arg:ty),*) $(-> $Out:ty)?;)+) => {
        impl Isa {
            $(
                #[doc = concat!("[`passes::", stringify!($name), "`].")]
                pub(super) fn $name(self, $($arg: $Arg),*) $(-> $Out)? {
                    #[cfg(target_arch = "x86_64")]
                    #[target_feature(enable = "avx2")]
                    fn avx2($($arg: $Arg),*) $(-> $Out)? {
                        passes::$name($($arg),*)
                    }
                    #[cfg(target_arch = "x86_64")]
                    #[target_feature(enable = "avx2,avx512f,avx512dq,avx512vl")]
                    fn avx512($($arg: $Arg),*) $(-> $Out)? {
                        passes::$name($($arg),*)
                    }
                    match self.0 {
                        Level::Base => passes::$name($($arg),*),
                        // SAFETY: `Isa::all`, the only maker of an `Isa`, found AVX2.
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx2 => unsafe { avx2($($arg),*) },
                        // SAFETY: `Isa::all`, the only maker of an `Isa`, found AVX2 and these parts of AVX-512.
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx512 => unsafe { avx512($($arg),*) },
                    }
                }
            )+
        }
    };
}

compiled! {
    maximum(row: &[f32]) -> Option<f32>;
    first(row: &[f32], value: f32) -> Option<TokenId>;
    larger(row: &[f32], value: f32) -> u32;
    weights(logits: &[f32], weigh: &Weigh, weights: &mut Vec<f64>);
    block_sums(row: &[f32], weigh: &Weigh, sums: &mut Vec<f64>);
    at_least(row: &[f32], least: f32, tokens: &mut Vec<TokenId>);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::tests::noise;
    use proptest::prelude::*;

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_same_bits(
            seed in any::<u64>(), n in 1_usize..5000, scale in 0.1_f32..900.0, temperature in 0.01_f64..5.0, min_p in 0.0_f64..0.5
        ) {
            let mut row = noise(seed, n, scale);
            row[n / 2] = f32::NEG_INFINITY;
            let weigh = Weigh { maximum: f64::from(scale), sharpness: 1.0 / temperature, min_p };
            let run = |isa: Isa| {
                let (mut all, mut sums, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
                isa.weights(&row, &weigh, &mut all);
                isa.block_sums(&row, &weigh, &mut sums);
                isa.at_least(&row, scale / 2.0, &mut tokens);
                (bits(&all), bits(&sums), tokens, isa.maximum(&row), isa.larger(&row, 0.0), isa.first(&row, row[n - 1]))
            };
            let expected = run(Isa(Level::Base));
            for isa in Isa::all() {
                prop_assert_eq!(run(isa), expected.clone(), "{:?}", isa);
            }
        }
    }

    #[test]
    fn tokens_at_least_as_large_are_found_wherever_they_are() {
        for n in [1, 31, 32, 33, 100] {
            for at in 0..n {
                let mut row = vec![0.0; n];
                row[at] = 1.0;
                for isa in Isa::all() {
                    let mut tokens = Vec::new();
                    isa.at_least(&row, 1.0, &mut tokens);
                    assert_eq!(tokens, [at as TokenId]);
                }
            }
        }
    }
}
