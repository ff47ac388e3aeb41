//! Decoding while packing: the portable loops, compiled once more for each instruction set.
#![expect(
    unsafe_code,
    reason = "calls of functions compiled for detected instruction sets"
)]

use half::bf16;

use super::super::portable;
use super::{Avx2, Avx512};

macro_rules! compiled_for {
    ($feature:literal, $token:ty, $diff:ident, $widen:ident) => {
        #[inline]
        pub(in crate::arch) fn $diff(_: $token, tuned: &[bf16], base: &[bf16], to: &mut [f32]) {
            #[target_feature(enable = $feature)]
            fn inner(tuned: &[bf16], base: &[bf16], to: &mut [f32]) {
                portable::bf16_diff(tuned, base, to);
            }
            // SAFETY: the token is only made after the features were detected.
            unsafe { inner(tuned, base, to) }
        }

        #[inline]
        pub(in crate::arch) fn $widen(_: $token, from: &[bf16], to: &mut [f32]) {
            #[target_feature(enable = $feature)]
            fn inner(from: &[bf16], to: &mut [f32]) {
                portable::bf16_widen(from, to);
            }
            // SAFETY: the token is only made after the features were detected.
            unsafe { inner(from, to) }
        }
    };
}

compiled_for!(
    "avx512f,avx512bw,avx512vl",
    Avx512,
    diff_avx512,
    widen_avx512
);
compiled_for!("avx2,fma", Avx2, diff_avx2, widen_avx2);
