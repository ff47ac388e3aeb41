//! AVX2: two registers of eight lanes.
#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls of functions that need AVX2"
)]
#![allow(
    clippy::wildcard_imports,
    reason = "a vector kernel is written in intrinsics"
)]

use std::arch::x86_64::*;

use super::{Job, LANES, Lanes};

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        all.then_some(Self(()))
    }

    pub(crate) fn run<J: Job>(self, job: J) -> J::Out {
        // SAFETY: `self` exists only where `detect` found the features.
        unsafe { with_features(self, job) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn with_features<J: Job>(lanes: Avx2, job: J) -> J::Out {
    job.run(lanes)
}

// SAFETY of every block below: `self` exists only where `detect` found the features; a load or store goes through
// a reference to an array that holds the bytes that it touches, and needs no alignment.
macro_rules! vectors {
    ($($body:tt)*) => {{
        // SAFETY: see above; the features were detected, and memory is touched only within the referenced array.
        unsafe { $($body)* }
    }};
}

type Pair = [__m256; 2];

impl Lanes for Avx2 {
    type V = Pair;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        vectors!([_mm256_set1_ps(x); 2])
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Pair {
        vectors!([0, 8].map(|at| _mm256_loadu_ps(from.as_ptr().add(at))))
    }

    #[inline(always)]
    fn store(self, v: Pair, to: &mut [f32; LANES]) {
        vectors! {
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
        }
    }

    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        vectors!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        vectors!([
            _mm256_fmadd_ps(a[0], b[0], c[0]),
            _mm256_fmadd_ps(a[1], b[1], c[1])
        ])
    }

    #[inline(always)]
    fn sum(self, v: Pair) -> f32 {
        vectors! {
            let v = _mm256_add_ps(v[0], v[1]);
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        vectors!(_mm_prefetch::<_MM_HINT_T0>(at.cast()));
    }

    #[inline(always)]
    fn prefetch_second(self, at: *const u8) {
        vectors!(_mm_prefetch::<_MM_HINT_T1>(at.cast()));
    }

    #[inline(always)]
    fn f32(self, from: &[u8; 64]) -> Pair {
        vectors!([0, 32].map(|at| _mm256_loadu_ps(from.as_ptr().add(at).cast())))
    }

    #[inline(always)]
    fn bf16(self, from: &[u8; 32]) -> Pair {
        vectors!([0, 16].map(|at| {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(at).cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }))
    }

    #[inline(always)]
    fn f16(self, from: &[u8; 32]) -> Pair {
        vectors!([0, 16].map(|at| _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(at).cast()))))
    }

    #[inline(always)]
    fn e4m3(self, from: &[u8; 16]) -> Pair {
        vectors! {
            // s eeee mmm to s 0eeee mmm0000000: half precision with 8 less in the exponent, subnormal numbers too.
            let wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast()));
            let half = _mm256_and_si256(_mm256_slli_epi16::<7>(wide), _mm256_set1_epi16(0xbf80_u16.cast_signed()));
            [_mm256_cvtph_ps(_mm256_castsi256_si128(half)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(half))]
        }
    }

    #[inline(always)]
    fn e5m2(self, from: &[u8; 16]) -> Pair {
        vectors! {
            let wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.as_ptr().cast()));
            let half = _mm256_slli_epi16::<8>(wide);
            [_mm256_cvtph_ps(_mm256_castsi256_si128(half)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(half))]
        }
    }

    #[inline(always)]
    fn i8(self, from: &[u8; 16]) -> Pair {
        vectors!([0, 8].map(|at| {
            let codes = _mm_loadl_epi64(from.as_ptr().add(at).cast());
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))
        }))
    }

    #[inline(always)]
    fn nibbles(self, from: &[u8; 8], table: Pair) -> Pair {
        let word =
            |at: usize| i32::from_le_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
        vectors!([0, 4].map(|at| {
            let shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
            let index = _mm256_srlv_epi32(_mm256_set1_epi32(word(at)), shifts);
            // Each permutation looks at the three lowest bits of an index; the fourth chooses between the two.
            let low = _mm256_permutevar8x32_ps(table[0], index);
            let high = _mm256_permutevar8x32_ps(table[1], index);
            _mm256_blendv_ps(
                low,
                high,
                _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)),
            )
        }))
    }
}
