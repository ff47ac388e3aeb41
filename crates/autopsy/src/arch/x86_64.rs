//! x86-64. Each type is a proof that the processor has its instructions, so its methods are safe to call.
#![expect(
    unsafe_code,
    reason = "calls of functions and intrinsics that need AVX2 or AVX-512"
)]

use std::arch::x86_64::{
    __m128i, __m256, __m256d, __m256i, __m512, _CMP_EQ_OQ, _mm_add_pd, _mm_add_sd, _mm_cvtsd_f64,
    _mm_unpackhi_pd, _mm256_add_pd, _mm256_add_ps, _mm256_castpd256_pd128, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepu16_epi32, _mm256_cvtps_pd,
    _mm256_extractf128_pd, _mm256_extractf128_ps, _mm256_max_ps, _mm256_min_ps, _mm256_movemask_ps,
    _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_sub_ps,
    _mm512_add_pd, _mm512_add_ps, _mm512_castpd512_pd256, _mm512_castps512_ps256,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepu16_epi32, _mm512_cvtps_pd,
    _mm512_extractf32x8_ps, _mm512_extractf64x4_pd, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
    _mm512_reduce_max_ps, _mm512_reduce_min_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_slli_epi32, _mm512_sub_ps,
};
use std::mem::transmute;

use super::{Bf16Lanes, Lanes, TileSums, portable};

/// [`Lanes`] in registers.
///
/// # Safety
/// Every function needs the instructions of its type.
trait Vector: Copy {
    unsafe fn load(from: &Lanes) -> Self;
    unsafe fn load_bf16(from: &Bf16Lanes) -> Self;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// The smaller; `other` if one is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// The larger; `other` if one is NaN.
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn zeros(self) -> u32;
    /// The sum in f64, in halves.
    unsafe fn sum(self) -> f64;
    /// The smallest of lanes without NaN.
    unsafe fn lowest(self) -> f32;
    /// The largest of lanes without NaN.
    unsafe fn highest(self) -> f32;
}

/// Sixteen numbers as they are stored.
trait Stored {
    /// # Safety
    /// The processor must have the instructions of `V`.
    unsafe fn load<V: Vector>(&self) -> V;
}

impl Stored for Lanes {
    #[inline(always)]
    unsafe fn load<V: Vector>(&self) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load(self) }
    }
}

impl Stored for Bf16Lanes {
    #[inline(always)]
    unsafe fn load<V: Vector>(&self) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load_bf16(self) }
    }
}

/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn sums<V: Vector, S: Stored>(rows: &[&[S]]) -> TileSums {
    // SAFETY: as the caller promises.
    unsafe {
        let (zero, infinity) = (V::splat(0.0), V::splat(f32::INFINITY));
        let (mut s1, mut s2, mut s3, mut s4) = (zero, zero, zero, zero);
        let (mut low, mut high) = (infinity, V::splat(f32::NEG_INFINITY));
        let mut least_square = infinity;
        for row in rows {
            for lanes in *row {
                let x = lanes.load::<V>();
                let x2 = x.mul(x);
                s1 = s1.add(x);
                s2 = s2.add(x2);
                s3 = s3.add(x2.mul(x));
                s4 = s4.add(x2.mul(x2));
                low = x.min(low);
                high = x.max(high);
                least_square = x2.min(least_square);
            }
        }
        // To count takes one instruction more than to know that there is nothing to count, which is the rule.
        let zeros = match least_square.lowest() > 0.0 {
            true => 0,
            false => zeros::<V, S>(rows),
        };
        TileSums {
            powers: [s1.sum(), s2.sum(), s3.sum(), s4.sum()],
            min: low.lowest(),
            max: high.highest(),
            zeros,
        }
    }
}

/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn zeros<V: Vector, S: Stored>(rows: &[&[S]]) -> u32 {
    let mut zeros = 0;
    for row in rows {
        for lanes in *row {
            // SAFETY: as the caller promises.
            zeros += unsafe { lanes.load::<V>().zeros() };
        }
    }
    zeros
}

/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn products<V: Vector>(xs: &[Lanes], ys: &[Lanes]) -> [f64; 6] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [V::splat(0.0); 6];
        for (x, y) in xs.iter().zip(ys) {
            let (x, y) = (V::load(x), V::load(y));
            let d = x.sub(y);
            sums[0] = sums[0].add(x);
            sums[1] = sums[1].add(y);
            sums[2] = sums[2].add(x.mul(x));
            sums[3] = sums[3].add(y.mul(y));
            sums[4] = sums[4].add(x.mul(y));
            sums[5] = sums[5].add(d.mul(d));
        }
        let [a, b, c, d, e, f] = sums;
        [a.sum(), b.sum(), c.sum(), d.sum(), e.sum(), f.sum()]
    }
}

/// A proof of some features, and the functions that are compiled with them.
macro_rules! instruction_set {
    ($(#[$doc:meta])* $name:ident, $vector:ty, $($feature:tt),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name(());

        impl $name {
            pub(super) fn detect() -> Option<Self> {
                let all = $(is_x86_feature_detected!($feature))&&+;
                all.then_some(Self(()))
            }

            pub(super) fn sums(self, tile: &[Lanes]) -> TileSums {
                $(#[target_feature(enable = $feature)])+
                fn inner(tile: &[Lanes]) -> TileSums {
                    // SAFETY: this function has the features of the vector.
                    unsafe { sums::<$vector, _>(&[tile]) }
                }
                // SAFETY: `self` exists only where `detect` found the features.
                unsafe { inner(tile) }
            }

            pub(super) fn sums_bf16(self, rows: &[&[Bf16Lanes]]) -> TileSums {
                $(#[target_feature(enable = $feature)])+
                fn inner(rows: &[&[Bf16Lanes]]) -> TileSums {
                    // SAFETY: this function has the features of the vector.
                    unsafe { sums::<$vector, _>(rows) }
                }
                // SAFETY: `self` exists only where `detect` found the features.
                unsafe { inner(rows) }
            }

            pub(super) fn products(self, xs: &[Lanes], ys: &[Lanes]) -> [f64; 6] {
                $(#[target_feature(enable = $feature)])+
                fn inner(xs: &[Lanes], ys: &[Lanes]) -> [f64; 6] {
                    // SAFETY: this function has the features of the vector.
                    unsafe { products::<$vector>(xs, ys) }
                }
                // SAFETY: `self` exists only where `detect` found the features.
                unsafe { inner(xs, ys) }
            }

            pub(super) fn widen_bf16(self, bytes: &[u8], out: &mut [f32]) {
                $(#[target_feature(enable = $feature)])+
                fn inner(bytes: &[u8], out: &mut [f32]) {
                    portable::widen_bf16(bytes, out);
                }
                // SAFETY: `self` exists only where `detect` found the features.
                unsafe { inner(bytes, out) }
            }

            pub(super) fn scale(self, numbers: &mut [f32], factor: f32) {
                $(#[target_feature(enable = $feature)])+
                fn inner(numbers: &mut [f32], factor: f32) {
                    portable::scale(numbers, factor);
                }
                // SAFETY: `self` exists only where `detect` found the features.
                unsafe { inner(numbers, factor) }
            }

            pub(super) fn count_magnitude(self, bytes: &[u8], code: u8) -> u64 {
                $(#[target_feature(enable = $feature)])+
                fn inner(bytes: &[u8], code: u8) -> u64 {
                    portable::count_magnitude(bytes, code)
                }
                // SAFETY: `self` exists only where `detect` found the features.
                unsafe { inner(bytes, code) }
            }
        }
    };
}

instruction_set!(
    /// Proof that the processor has AVX2.
    Avx2, Ymm2, "avx2", "popcnt"
);
instruction_set!(
    /// Proof that the processor has AVX-512 F, BW, DQ and VL.
    Avx512, Zmm, "avx512f", "avx512bw", "avx512dq", "avx512vl", "popcnt"
);

/// The sum of four f64, the upper half added to the lower one until one is left.
///
/// # Safety
/// The processor must have AVX.
#[inline(always)]
unsafe fn sum_of_4(lanes: __m256d) -> f64 {
    // SAFETY: the caller promises AVX, and SSE2 is in every x86-64.
    unsafe {
        let low = _mm256_castpd256_pd128(lanes);
        let two = _mm_add_pd(low, _mm256_extractf128_pd::<1>(lanes));
        _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
    }
}

/// Lane by lane, by an instruction for each of the registers.
macro_rules! lanewise {
    ($($name:ident = $instruction:ident [$($register:tt),+];)+) => {$(
        #[inline(always)]
        unsafe fn $name(self, other: Self) -> Self {
            // SAFETY: the caller promises the instruction.
            unsafe { Self($($instruction(self.$register, other.$register)),+) }
        }
    )+};
}

/// Lanes 0 to 7 and 8 to 15.
#[derive(Clone, Copy)]
#[repr(C)]
struct Ymm2(__m256, __m256);

impl Vector for Ymm2 {
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
    unsafe fn load_bf16(from: &Bf16Lanes) -> Self {
        // SAFETY: the halves of sixteen numbers of two bytes are two registers, and the caller promises AVX2.
        unsafe {
            let [low, high] = transmute::<Bf16Lanes, [__m128i; 2]>(*from);
            let widen = |half| {
                let bits = _mm256_cvtepu16_epi32(half);
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            };
            Self(widen(low), widen(high))
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

/// All sixteen lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Zmm(__m512);

impl Vector for Zmm {
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
    unsafe fn load_bf16(from: &Bf16Lanes) -> Self {
        // SAFETY: sixteen numbers of two bytes are half a register, and the caller promises AVX-512.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(transmute::<Bf16Lanes, __m256i>(*from));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)))
        }
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
            let eight = _mm512_add_pd(low, high);
            let upper = _mm512_extractf64x4_pd::<1>(eight);
            sum_of_4(_mm256_add_pd(_mm512_castpd512_pd256(eight), upper))
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
