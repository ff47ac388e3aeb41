//! Sixteen lanes in one register.
#![expect(
    unsafe_code,
    reason = "intrinsics that need the instructions of the file's name"
)]

use std::arch::x86_64::{
    __m512, __m512d, __m512i, _CMP_EQ_OQ, _mm256_add_pd, _mm512_add_epi16, _mm512_add_pd,
    _mm512_add_ps, _mm512_and_si512, _mm512_castpd512_pd256, _mm512_castps512_ps256,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtps_pd, _mm512_extractf32x8_ps,
    _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_max_epi16, _mm512_max_epu16, _mm512_max_ps,
    _mm512_min_epu16, _mm512_min_ps, _mm512_mul_ps, _mm512_reduce_max_ps, _mm512_reduce_min_ps,
    _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
    _mm512_sub_ps,
};
use std::mem::transmute;

use super::{BF16_LANES, Bf16Lanes, Lanes, UPPER, Vector, Words, sum_of_4};

/// All sixteen lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Zmm(__m512);

impl Vector for Zmm {
    type Words = __m512i;

    lanewise! {
        add = _mm512_add_ps[0];
        sub = _mm512_sub_ps[0];
        mul = _mm512_mul_ps[0];
        min = _mm512_min_ps[0];
        max = _mm512_max_ps[0];
    }

    #[inline(always)]
    unsafe fn load(from: &Lanes) -> Self {
        // SAFETY: sixteen numbers are a register.
        unsafe { transmute::<Lanes, Self>(*from) }
    }

    #[inline(always)]
    unsafe fn even(words: __m512i) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe { Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))) }
    }

    #[inline(always)]
    unsafe fn odd(words: __m512i) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            Self(_mm512_castsi512_ps(_mm512_and_si512(
                words,
                _mm512_set1_epi32(UPPER),
            )))
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe { Self(_mm512_fmadd_ps(self.0, other.0, sum.0)) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe { Self(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u32 {
        // SAFETY: the caller promises AVX-512.
        let mask = unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, _mm512_setzero_ps()) };
        mask.count_ones()
    }

    #[inline(always)]
    unsafe fn sum(self) -> f64 {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(self.0));
            let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self.0));
            sum_of_8(_mm512_add_pd(low, high))
        }
    }

    #[inline(always)]
    unsafe fn sum_with(self, other: Self) -> f64 {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let low = |x| _mm512_cvtps_pd(_mm512_castps512_ps256(x));
            let high = |x| _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(x));
            let low = _mm512_add_pd(low(self.0), low(other.0));
            sum_of_8(_mm512_add_pd(
                low,
                _mm512_add_pd(high(self.0), high(other.0)),
            ))
        }
    }

    #[inline(always)]
    unsafe fn lowest(self) -> f32 {
        // SAFETY: the caller promises AVX-512.
        unsafe { _mm512_reduce_min_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn highest(self) -> f32 {
        // SAFETY: the caller promises AVX-512.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
}

/// The sum of eight likewise.
///
/// # Safety
/// The processor must have AVX-512 F.
#[inline(always)]
unsafe fn sum_of_8(lanes: __m512d) -> f64 {
    // SAFETY: as the caller promises.
    unsafe {
        let upper = _mm512_extractf64x4_pd::<1>(lanes);
        sum_of_4(_mm256_add_pd(_mm512_castpd512_pd256(lanes), upper))
    }
}

impl Words for __m512i {
    #[inline(always)]
    unsafe fn load(from: &Bf16Lanes) -> Self {
        // SAFETY: the bytes are a register, of which any bits are valid.
        unsafe { transmute::<Bf16Lanes, Self>(*from) }
    }

    #[inline(always)]
    unsafe fn splat(x: u16) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe { _mm512_set1_epi16(x.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn max_signed(self, other: Self) -> Self {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { _mm512_max_epi16(self, other) }
    }

    #[inline(always)]
    unsafe fn max_unsigned(self, other: Self) -> Self {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { _mm512_max_epu16(self, other) }
    }

    #[inline(always)]
    unsafe fn min_unsigned(self, other: Self) -> Self {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { _mm512_min_epu16(self, other) }
    }

    #[inline(always)]
    unsafe fn doubled(self) -> Self {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { _mm512_add_epi16(self, self) }
    }

    #[inline(always)]
    fn each(self) -> [u16; BF16_LANES] {
        // SAFETY: a register is as many integers.
        unsafe { transmute::<Self, [u16; BF16_LANES]>(self) }
    }
}
