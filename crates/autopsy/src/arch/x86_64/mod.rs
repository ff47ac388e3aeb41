//! x86-64. Each type is a proof that the processor has its instructions, so its methods are safe to call.
#![expect(
    unsafe_code,
    reason = "calls of functions and intrinsics that need AVX2 or AVX-512"
)]

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

mod avx2;
mod avx512;

use std::arch::x86_64::{
    __m256d, _MM_HINT_T0, _mm_add_pd, _mm_add_sd, _mm_cvtsd_f64, _mm_prefetch, _mm_unpackhi_pd,
    _mm256_castpd256_pd128, _mm256_extractf128_pd,
};

use super::{BF16_LANES, Bf16Lanes, Lanes, TileSums, bf16_extremes, portable};
use avx2::Ymm2;
use avx512::Zmm;

/// [`Lanes`] in registers.
///
/// # Safety
/// Every function needs the instructions of its type.
trait Vector: Copy {
    /// [`Bf16Lanes`] in registers.
    type Words: Words;

    unsafe fn load(from: &Lanes) -> Self;
    /// The first, third, ... of numbers in BF16.
    unsafe fn even(words: Self::Words) -> Self;
    /// The second, fourth, ... of them.
    unsafe fn odd(words: Self::Words) -> Self;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self · other + sum`, rounded once.
    unsafe fn mul_add(self, other: Self, sum: Self) -> Self;
    /// The smaller; `other` if one is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// The larger; `other` if one is NaN.
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn zeros(self) -> u32;
    /// The sum in f64, in halves.
    unsafe fn sum(self) -> f64;
    /// The sum of both in f64, first lane by lane and then in halves.
    unsafe fn sum_with(self, other: Self) -> f64;
    /// The smallest of lanes without NaN.
    unsafe fn lowest(self) -> f32;
    /// The largest of lanes without NaN.
    unsafe fn highest(self) -> f32;
}

/// Thirty-two integers of sixteen bits.
///
/// # Safety
/// Every function needs the instructions of its type.
trait Words: Copy {
    unsafe fn load(from: &Bf16Lanes) -> Self;
    unsafe fn splat(x: u16) -> Self;
    unsafe fn max_signed(self, other: Self) -> Self;
    unsafe fn max_unsigned(self, other: Self) -> Self;
    unsafe fn min_unsigned(self, other: Self) -> Self;
    /// Each without its highest bit, times two.
    unsafe fn doubled(self) -> Self;
    fn each(self) -> [u16; BF16_LANES];
}

/// Adds the powers of some numbers to their sums.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn add_powers<V: Vector>(sums: [V; 4], x: V) -> [V; 4] {
    let [s1, s2, s3, s4] = sums;
    // SAFETY: as the caller promises.
    unsafe {
        let x2 = x.mul(x);
        [
            s1.add(x),
            x.mul_add(x, s2),
            x2.mul_add(x, s3),
            x2.mul_add(x2, s4),
        ]
    }
}

/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn sums<V: Vector>(tile: &[Lanes]) -> TileSums {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        let infinity = V::splat(f32::INFINITY);
        let (mut low, mut high) = (infinity, V::splat(f32::NEG_INFINITY));
        let mut least_square = infinity;
        for lanes in tile {
            let x = V::load(lanes);
            sums = add_powers(sums, x);
            low = x.min(low);
            high = x.max(high);
            least_square = x.mul(x).min(least_square);
        }
        // To count takes one instruction more than to know that there is nothing to count, which is the rule.
        let zeros = match least_square.lowest() > 0.0 {
            true => 0,
            false => tile.iter().map(|lanes| V::load(lanes).zeros()).sum(),
        };
        let [s1, s2, s3, s4] = sums;
        TileSums {
            powers: [s1.sum(), s2.sum(), s3.sum(), s4.sum()],
            min: low.lowest(),
            max: high.highest(),
            zeros,
        }
    }
}

/// Bytes by which a loop over rows in BF16 asks for memory ahead of itself: the same rows of the next tiles.
const AHEAD: usize = 512;

/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn sums_bf16<V: Vector>(rows: &[&[Bf16Lanes]]) -> Option<TileSums> {
    // SAFETY: as the caller promises; a prefetch may be of any address.
    unsafe {
        let (mut even, mut odd) = ([V::splat(0.0); 4], [V::splat(0.0); 4]);
        let (mut signed, mut unsigned) = (V::Words::splat(0x8000), V::Words::splat(0));
        let mut least = V::Words::splat(u16::MAX);
        for row in rows {
            for lanes in *row {
                _mm_prefetch::<_MM_HINT_T0>(lanes.as_ptr().wrapping_add(AHEAD).cast());
                let words = V::Words::load(lanes);
                even = add_powers(even, V::even(words));
                odd = add_powers(odd, V::odd(words));
                signed = words.max_signed(signed);
                unsigned = words.max_unsigned(unsigned);
                least = words.doubled().min_unsigned(least);
            }
        }
        let signed = signed.each().into_iter().map(u16::cast_signed).max();
        let unsigned = unsigned.each().into_iter().max();
        let (min, max) = bf16_extremes(signed?, unsigned?)?;
        let zeros = match least.each().into_iter().min() {
            Some(0) => zeros_bf16(rows),
            _ => 0,
        };
        let [(e1, o1), (e2, o2), (e3, o3), (e4, o4)] = std::array::from_fn(|i| (even[i], odd[i]));
        Some(TileSums {
            powers: [
                e1.sum_with(o1),
                e2.sum_with(o2),
                e3.sum_with(o3),
                e4.sum_with(o4),
            ],
            min,
            max,
            zeros,
        })
    }
}

#[inline(always)]
fn zeros_bf16(rows: &[&[Bf16Lanes]]) -> u32 {
    let mut zeros = 0;
    for lanes in rows.iter().copied().flatten() {
        let bits = lanes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
        // At most 32, so that a short integer counts them.
        zeros += u32::from(bits.map(|b| u16::from(b << 1 == 0)).sum::<u16>());
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
            sums[2] = x.mul_add(x, sums[2]);
            sums[3] = y.mul_add(y, sums[3]);
            sums[4] = x.mul_add(y, sums[4]);
            sums[5] = d.mul_add(d, sums[5]);
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
                    unsafe { sums::<$vector>(tile) }
                }
                // SAFETY: `self` exists only where `detect` found the features.
                unsafe { inner(tile) }
            }

            pub(super) fn sums_bf16(self, rows: &[&[Bf16Lanes]]) -> Option<TileSums> {
                $(#[target_feature(enable = $feature)])+
                fn inner(rows: &[&[Bf16Lanes]]) -> Option<TileSums> {
                    // SAFETY: this function has the features of the vector.
                    unsafe { sums_bf16::<$vector>(rows) }
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
    /// Proof that the processor has AVX2 and FMA.
    Avx2, Ymm2, "avx2", "fma", "popcnt"
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

/// The bits of the second of two numbers in BF16.
const UPPER: i32 = 0xffff_0000_u32.cast_signed();
