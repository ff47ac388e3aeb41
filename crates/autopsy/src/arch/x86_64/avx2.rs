//! Sixteen lanes in two registers.
#![expect(
    unsafe_code,
    reason = "intrinsics that need the instructions of the file's name"
)]

use std::arch::x86_64::{
    __m256, __m256i, _CMP_EQ_OQ, _mm256_add_epi16, _mm256_add_pd, _mm256_add_ps, _mm256_and_si256,
    _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtps_pd,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_max_epi16, _mm256_max_epu16, _mm256_max_ps,
    _mm256_min_epu16, _mm256_min_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_sub_ps,
};
use std::mem::transmute;

use super::{BF16_LANES, Bf16Lanes, Lanes, UPPER, Vector, Words, sum_of_4};

/// Lanes 0 to 7 and 8 to 15.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Ymm2(__m256, __m256);

impl Vector for Ymm2 {
    type Words = [__m256i; 2];

    lanewise! {
        add = _mm256_add_ps[0, 1];
        sub = _mm256_sub_ps[0, 1];
        mul = _mm256_mul_ps[0, 1];
        min = _mm256_min_ps[0, 1];
        max = _mm256_max_ps[0, 1];
    }

    #[inline(always)]
    unsafe fn load(from: &Lanes) -> Self {
        // SAFETY: the halves of sixteen numbers are two registers of eight.
        unsafe { transmute::<Lanes, Self>(*from) }
    }

    #[inline(always)]
    unsafe fn even([low, high]: [__m256i; 2]) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let widen = |words| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words));
            Self(widen(low), widen(high))
        }
    }

    #[inline(always)]
    unsafe fn odd([low, high]: [__m256i; 2]) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let upper = _mm256_set1_epi32(UPPER);
            let widen = |words| _mm256_castsi256_ps(_mm256_and_si256(words, upper));
            Self(widen(low), widen(high))
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self {
        // SAFETY: the caller promises FMA.
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, other.0, sum.0),
                _mm256_fmadd_ps(self.1, other.1, sum.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller promises AVX.
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u32 {
        // SAFETY: the caller promises AVX.
        unsafe {
            let zero = _mm256_setzero_ps();
            let mask = |x| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(x, zero));
            (mask(self.0) << 8 | mask(self.1)).count_ones()
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f64 {
        // SAFETY: the caller promises AVX.
        unsafe {
            let low = |x| _mm256_cvtps_pd(_mm256_castps256_ps128(x));
            let high = |x| _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x));
            let left = _mm256_add_pd(low(self.0), low(self.1));
            let right = _mm256_add_pd(high(self.0), high(self.1));
            sum_of_4(_mm256_add_pd(left, right))
        }
    }

    #[inline(always)]
    unsafe fn sum_with(self, other: Self) -> f64 {
        // SAFETY: the caller promises AVX.
        unsafe {
            let low = |x| _mm256_cvtps_pd(_mm256_castps256_ps128(x));
            let high = |x| _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x));
            let both = |half: fn(Self) -> __m256| (half(self), half(other));
            let (a, b) = both(|x| x.0);
            let (c, d) = both(|x| x.1);
            let left = _mm256_add_pd(_mm256_add_pd(low(a), low(b)), _mm256_add_pd(low(c), low(d)));
            let right = _mm256_add_pd(
                _mm256_add_pd(high(a), high(b)),
                _mm256_add_pd(high(c), high(d)),
            );
            sum_of_4(_mm256_add_pd(left, right))
        }
    }

    #[inline(always)]
    unsafe fn lowest(self) -> f32 {
        // SAFETY: the caller promises AVX.
        unsafe { each(_mm256_min_ps(self.0, self.1)).fold(f32::INFINITY, f32::min) }
    }

    #[inline(always)]
    unsafe fn highest(self) -> f32 {
        // SAFETY: the caller promises AVX.
        unsafe { each(_mm256_max_ps(self.0, self.1)).fold(f32::NEG_INFINITY, f32::max) }
    }
}

fn each(register: __m256) -> std::array::IntoIter<f32, 8> {
    // SAFETY: a register is eight numbers.
    unsafe { transmute::<__m256, [f32; 8]>(register) }.into_iter()
}

/// Each function by the instructions of both registers.
impl Words for [__m256i; 2] {
    #[inline(always)]
    unsafe fn load(from: &Bf16Lanes) -> Self {
        // SAFETY: the bytes are two registers, of which any bits are valid.
        unsafe { transmute::<Bf16Lanes, Self>(*from) }
    }

    #[inline(always)]
    unsafe fn splat(x: u16) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe { [_mm256_set1_epi16(x.cast_signed()); 2] }
    }

    #[inline(always)]
    unsafe fn max_signed(self, other: Self) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            [
                _mm256_max_epi16(self[0], other[0]),
                _mm256_max_epi16(self[1], other[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn max_unsigned(self, other: Self) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            [
                _mm256_max_epu16(self[0], other[0]),
                _mm256_max_epu16(self[1], other[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn min_unsigned(self, other: Self) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            [
                _mm256_min_epu16(self[0], other[0]),
                _mm256_min_epu16(self[1], other[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn doubled(self) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe { self.map(|words| _mm256_add_epi16(words, words)) }
    }

    #[inline(always)]
    fn each(self) -> [u16; BF16_LANES] {
        // SAFETY: two registers are as many integers.
        unsafe { transmute::<Self, [u16; BF16_LANES]>(self) }
    }
}
