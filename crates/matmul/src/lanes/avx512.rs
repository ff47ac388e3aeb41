//! AVX-512: one register.
#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls of functions that need AVX-512"
)]
#![allow(
    clippy::wildcard_imports,
    reason = "a vector kernel is written in intrinsics"
)]

use std::arch::x86_64::*;

use super::{Job, LANES, Lanes};

/// Proof that the processor has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        all.then_some(Self(()))
    }

    pub(crate) fn run<J: Job>(self, job: J) -> J::Out {
        // SAFETY: `self` exists only where `detect` found the features.
        unsafe { with_features(self, job) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn with_features<J: Job>(lanes: Avx512, job: J) -> J::Out {
    job.run(lanes)
}

// SAFETY of every block below: `self` exists only where `detect` found the features, which imply AVX2, FMA and F16C;
// a load or store goes through a reference to an array of exactly the bytes that it touches, and needs no alignment.
macro_rules! vectors {
    ($($body:tt)*) => {{
        // SAFETY: see above; the features were detected, and memory is touched only within the referenced array.
        unsafe { $($body)* }
    }};
}

impl Lanes for Avx512 {
    type V = __m512;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        vectors!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        vectors!(_mm512_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32; LANES]) {
        vectors!(_mm512_storeu_ps(to.as_mut_ptr(), v));
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        vectors!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        vectors!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        vectors! {
            let v = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        }
    }

    #[inline(always)]
    fn sum4(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        vectors! {
            // Halves, then quarters added, so that each quarter of `v` is what is left of one vector.
            let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
            let v = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
            let v = _mm512_add_ps(v, _mm512_permute_ps::<0x4e>(v));
            let v = _mm512_add_ps(v, _mm512_permute_ps::<0xb1>(v));
            let firsts = _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, v));
            _mm_storeu_ps(sums.as_mut_ptr(), firsts);
        }
        sums
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
    fn f32(self, from: &[u8; 64]) -> __m512 {
        vectors!(_mm512_loadu_ps(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn bf16(self, from: &[u8; 32]) -> __m512 {
        vectors! {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    fn f16(self, from: &[u8; 32]) -> __m512 {
        vectors!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn e4m3(self, from: &[u8; 16]) -> __m512 {
        vectors! {
            // s eeee mmm to s 0eeee mmm0000000: half precision with 8 less in the exponent, subnormal numbers too.
            let wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast()));
            let half = _mm256_and_si256(_mm256_slli_epi16::<7>(wide), _mm256_set1_epi16(0xbf80_u16.cast_signed()));
            _mm512_cvtph_ps(half)
        }
    }

    #[inline(always)]
    fn e4m3_pair(self, from: &[u8; 32]) -> [__m512; 2] {
        vectors! {
            let wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.as_ptr().cast()));
            let half = _mm512_and_si512(_mm512_slli_epi16::<7>(wide), _mm512_set1_epi16(0xbf80_u16.cast_signed()));
            [
                _mm512_cvtph_ps(_mm512_castsi512_si256(half)),
                _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(half)),
            ]
        }
    }

    #[inline(always)]
    fn e5m2(self, from: &[u8; 16]) -> __m512 {
        vectors! {
            let wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.as_ptr().cast()));
            _mm512_cvtph_ps(_mm256_slli_epi16::<8>(wide))
        }
    }

    #[inline(always)]
    fn i8(self, from: &[u8; 16]) -> __m512 {
        vectors!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(
            from.as_ptr().cast()
        ))))
    }

    #[inline(always)]
    fn nibbles(self, from: &[u8; 8], table: __m512) -> __m512 {
        let word =
            |at: usize| i32::from_le_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
        vectors! {
            let both = _mm512_inserti64x4::<1>(
                _mm512_castsi256_si512(_mm256_set1_epi32(word(0))),
                _mm256_set1_epi32(word(4)),
            );
            let shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
            // The permutation looks at the four lowest bits of an index only.
            _mm512_permutexvar_ps(_mm512_srlv_epi32(both, shifts), table)
        }
    }
}
