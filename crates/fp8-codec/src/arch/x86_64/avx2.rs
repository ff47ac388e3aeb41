//! AVX2 and F16C: eight elements at a time.
#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls of functions that need AVX2"
)]
#![allow(
    clippy::wildcard_imports,
    reason = "a vector kernel is written in intrinsics"
)]

use std::arch::x86_64::*;

use half::bf16;

use super::{
    DIVIDE, DIVIDE_THEN_BF16, GROUP, PLAIN, Rule, beyond_max, for_format, prefetch_distance,
    undivided,
};
use crate::{
    Format, Overflow, Quotient, Rows, RowsMut, Scales,
    arch::{Divide, Kernels},
    minifloat::Layout,
};

/// Proof that the processor has AVX2 and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn new() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        all.then_some(Self(()))
    }
}

impl Kernels for Avx2 {
    fn amax_f32(self, src: Rows<'_, f32>, width: usize, amax: &mut [f32]) {
        // SAFETY: `self` exists only where `new` found the features.
        unsafe { amax_f32(src, width, amax) }
    }

    fn amax_bf16(self, src: Rows<'_, bf16>, width: usize, amax: &mut [f32]) {
        // SAFETY: `self` exists only where `new` found the features.
        unsafe { amax_bf16(src, width, amax) }
    }

    fn encode_f32(
        self,
        format: Format,
        overflow: Overflow,
        src: Rows<'_, f32>,
        codes: RowsMut<'_, u8>,
    ) {
        for_format!(format, L => {
            let limit = beyond_max::<L>(overflow);
            // SAFETY: `self` exists only where `new` found the features.
            unsafe { encode_f32::<L, PLAIN>(limit, undivided(&src), src, codes) }
        });
    }

    fn encode_bf16(
        self,
        format: Format,
        overflow: Overflow,
        src: Rows<'_, bf16>,
        codes: RowsMut<'_, u8>,
    ) {
        for_format!(format, L => {
            let limit = beyond_max::<L>(overflow);
            // SAFETY: `self` exists only where `new` found the features.
            unsafe { encode_bf16::<L, PLAIN>(limit, undivided(&src), src, codes) }
        });
    }

    fn encode_scaled_f32(self, rule: Divide<'_>, src: Rows<'_, f32>, codes: RowsMut<'_, u8>) {
        for_format!(rule.format, L => match rule.quotient {
            // SAFETY: `self` exists only where `new` found the features.
            Quotient::F32 => unsafe { encode_f32::<L, DIVIDE>(L::MAX, rule.scales, src, codes) },
            // SAFETY: as above.
            Quotient::Bf16 => unsafe {
                encode_f32::<L, DIVIDE_THEN_BF16>(L::MAX, rule.scales, src, codes);
            },
        });
    }

    fn encode_scaled_bf16(self, rule: Divide<'_>, src: Rows<'_, bf16>, codes: RowsMut<'_, u8>) {
        for_format!(rule.format, L => match rule.quotient {
            // SAFETY: `self` exists only where `new` found the features.
            Quotient::F32 => unsafe { encode_bf16::<L, DIVIDE>(L::MAX, rule.scales, src, codes) },
            // SAFETY: as above.
            Quotient::Bf16 => unsafe {
                encode_bf16::<L, DIVIDE_THEN_BF16>(L::MAX, rule.scales, src, codes);
            },
        });
    }

    fn decode_scaled_f32(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, f32>,
    ) {
        // SAFETY: `self` exists only where `new` found the features.
        for_format!(format, L => unsafe { decode_f32::<L>(scales, codes, out) });
    }

    fn decode_scaled_bf16(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, bf16>,
    ) {
        // SAFETY: `self` exists only where `new` found the features.
        for_format!(format, L => unsafe { decode_bf16::<L>(scales, codes, out) });
    }
}

/// Defines a kernel that encodes rows of `$Element`, which `$load` widens to eight f32, and one for a run of one scale.
macro_rules! encode_rows {
    ($name:ident, $run:ident, $Element:ty, $load:ident) => {
        #[target_feature(enable = "avx2,f16c")]
        fn $name<L: Layout, const STEP: u8>(
            limit: f32,
            scales: Scales<'_>,
            src: Rows<'_, $Element>,
            mut codes: RowsMut<'_, u8>,
        ) {
            for (src, codes) in src.iter().zip(codes.iter_mut()) {
                let blocks = src.chunks(scales.width).zip(codes.chunks_mut(scales.width));
                for ((src, codes), &divisor) in blocks.zip(scales.values) {
                    $run::<L, STEP>(Rule { divisor, limit }, src, codes);
                }
            }
        }

        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        fn $run<L: Layout, const STEP: u8>(rule: Rule, src: &[$Element], codes: &mut [u8]) {
            let (src, src_tail) = src.as_chunks::<8>();
            let (codes, codes_tail) = codes.as_chunks_mut::<8>();
            for (x, code) in src.iter().zip(codes) {
                store_u8(code, encode_lanes::<L, STEP>(rule, $load(x)));
            }
            if !src_tail.is_empty() {
                let mut x = [<$Element>::default(); 8];
                x[..src_tail.len()].copy_from_slice(src_tail);
                let mut code = [0; 8];
                store_u8(&mut code, encode_lanes::<L, STEP>(rule, $load(&x)));
                codes_tail.copy_from_slice(&code[..src_tail.len()]);
            }
        }
    };
}

/// Defines a kernel that decodes rows to `$Element`, to which `$store` rounds eight f32, and one for a run of one scale.
macro_rules! decode_rows {
    ($name:ident, $run:ident, $Element:ty, $store:ident) => {
        #[target_feature(enable = "avx2,f16c")]
        fn $name<L: Layout>(
            scales: Scales<'_>,
            codes: Rows<'_, u8>,
            mut out: RowsMut<'_, $Element>,
        ) {
            for (codes, out) in codes.iter().zip(out.iter_mut()) {
                let blocks = codes.chunks(scales.width).zip(out.chunks_mut(scales.width));
                for ((codes, out), &scale) in blocks.zip(scales.values) {
                    $run::<L>(scale, codes, out);
                }
            }
        }

        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        fn $run<L: Layout>(scale: f32, codes: &[u8], out: &mut [$Element]) {
            let (codes, codes_tail) = codes.as_chunks::<8>();
            let (out, out_tail) = out.as_chunks_mut::<8>();
            for (code, y) in codes.iter().zip(out) {
                $store(y, decode_lanes::<L>(scale, load_u8(code)));
            }
            if !codes_tail.is_empty() {
                let mut code = [0; 8];
                code[..codes_tail.len()].copy_from_slice(codes_tail);
                let mut y = [<$Element>::default(); 8];
                $store(&mut y, decode_lanes::<L>(scale, load_u8(&code)));
                out_tail.copy_from_slice(&y[..codes_tail.len()]);
            }
        }
    };
}

encode_rows!(encode_f32, encode_run_f32, f32, load_f32);
encode_rows!(encode_bf16, encode_run_bf16, bf16, load_bf16);
decode_rows!(decode_f32, decode_run_f32, f32, store_f32);
decode_rows!(decode_bf16, decode_run_bf16, bf16, store_bf16);

/// The codes of eight numbers, one in each 32-bit lane.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn encode_lanes<L: Layout, const STEP: u8>(rule: Rule, x: __m256) -> __m256i {
    let x = match STEP {
        PLAIN => x,
        _ => _mm256_div_ps(x, _mm256_set1_ps(rule.divisor)),
    };
    let x = match STEP {
        DIVIDE_THEN_BF16 => round_to_bf16(x),
        _ => _mm256_castps_si256(x),
    };
    let magnitude = _mm256_and_si256(x, _mm256_set1_epi32(0x7fff_ffff));
    // `min` returns its second operand if one is NaN.
    let limit = _mm256_set1_ps(rule.limit);
    let clamped = _mm256_castps_si256(_mm256_min_ps(limit, _mm256_castsi256_ps(magnitude)));

    let exponent_bits = _mm256_and_si256(clamped, _mm256_set1_epi32(0x7f80_0000));
    let smallest_normal = _mm256_set1_epi32((L::MIN_EXPONENT << 23).cast_signed());
    let exponent = _mm256_max_epu32(exponent_bits, smallest_normal);
    let dropped_bits = 23 - L::MANTISSA_BITS;
    let rounder = _mm256_add_epi32(
        exponent,
        _mm256_set1_epi32((dropped_bits << 23).cast_signed()),
    );
    let sum = _mm256_add_ps(_mm256_castsi256_ps(clamped), _mm256_castsi256_ps(rounder));
    let mantissa = _mm256_sub_epi32(_mm256_castps_si256(sum), rounder);
    let binade = _mm256_srlv_epi32(
        _mm256_sub_epi32(exponent, smallest_normal),
        _mm256_set1_epi32(dropped_bits.cast_signed()),
    );
    let code = _mm256_add_epi32(binade, mantissa);

    let is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f80_0000));
    let code = _mm256_blendv_epi8(code, _mm256_set1_epi32(L::NAN.into()), is_nan);
    let sign = _mm256_srli_epi32::<24>(x);
    _mm256_or_si256(code, _mm256_and_si256(sign, _mm256_set1_epi32(0x80)))
}

/// The values of eight codes times the scale.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn decode_lanes<L: Layout>(scale: f32, codes: __m128i) -> __m256 {
    // As an f16 the magnitude is 2^(15 - bias) times too small, and its subnormals are f16 subnormals.
    let wide = _mm_cvtepi8_epi16(codes);
    let magnitude = _mm_and_si128(wide, _mm_set1_epi16(0x7f));
    let shifted = if L::MANTISSA_BITS == 3 {
        _mm_slli_epi16::<7>(magnitude)
    } else {
        _mm_slli_epi16::<8>(magnitude)
    };
    let sign = _mm_and_si128(wide, _mm_set1_epi16(i16::MIN));
    let up = f32::from_bits((127 + 15 - L::BIAS) << 23);
    let value = _mm256_mul_ps(
        _mm256_cvtph_ps(_mm_or_si128(sign, shifted)),
        _mm256_set1_ps(up),
    );

    let is_nan = _mm_cmpgt_epi16(magnitude, _mm_set1_epi16(L::LAST_NUMBER.into()));
    let is_nan = _mm256_castsi256_ps(_mm256_cvtepi16_epi32(is_nan));
    let nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc0_0000));
    let nan = _mm256_or_ps(_mm256_and_ps(value, _mm256_set1_ps(-0.0)), nan);
    let value = _mm256_blendv_ps(value, nan, is_nan);
    _mm256_mul_ps(value, _mm256_set1_ps(scale))
}

/// The bits of each f32 rounded to a bf16, nearest even, in the upper half of its lane. A NaN stays NaN with its sign.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn round_to_bf16(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let just_below_half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    let rounded = _mm256_add_epi32(bits, just_below_half);
    let rounded = _mm256_and_si256(rounded, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
    // The addition could carry out of a NaN's payload.
    let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
    _mm256_blendv_epi8(rounded, bits, is_nan)
}

/// Defines a kernel that finds the largest magnitude in each block of a row of blocks. A row of blocks is passed over in
/// order, because memory likes that, so a few blocks' vectors of largest magnitudes are kept.
macro_rules! amax_rows {
    ($name:ident, $run:ident, $Element:ty, $largest:ident) => {
        #[target_feature(enable = "avx2,f16c")]
        fn $name(src: Rows<'_, $Element>, width: usize, amax: &mut [f32]) {
            for (group, amax) in amax.chunks_mut(GROUP).enumerate() {
                let first = group * GROUP * width;
                let last = src.width().min(first + GROUP * width);
                let ahead = prefetch_distance(&src);
                let mut most = [_mm256_setzero_si256(); GROUP];
                for row in src.iter() {
                    for (block, most) in row[first..last].chunks(width).zip(&mut most) {
                        *most = $run(*most, block, ahead);
                    }
                }
                for (most, amax) in most.into_iter().zip(amax) {
                    *amax = $largest(most);
                }
            }
        }
    };
}

amax_rows!(amax_f32, amax_run_f32, f32, largest_f32);
amax_rows!(amax_bf16, amax_run_bf16, bf16, largest_bf16);

/// The larger of each lane and the magnitudes of the run that fall on it. Prefetches at the distance `ahead`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn amax_run_f32(mut most: __m256i, run: &[f32], ahead: Option<usize>) -> __m256i {
    let magnitude_bits = _mm256_set1_epi32(0x7fff_ffff);
    let (chunks, tail) = run.as_chunks::<8>();
    for x in chunks {
        if let Some(ahead) = ahead {
            _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().wrapping_add(ahead).cast());
        }
        let bits = _mm256_castps_si256(load_f32(x));
        most = _mm256_max_epu32(most, _mm256_and_si256(bits, magnitude_bits));
    }
    if !tail.is_empty() {
        let mut x = [0.0; 8];
        x[..tail.len()].copy_from_slice(tail);
        let bits = _mm256_castps_si256(load_f32(&x));
        most = _mm256_max_epu32(most, _mm256_and_si256(bits, magnitude_bits));
    }
    most
}

/// [`amax_run_f32`] of bf16 elements, in 16-bit lanes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn amax_run_bf16(mut most: __m256i, run: &[bf16], ahead: Option<usize>) -> __m256i {
    let magnitude_bits = _mm256_set1_epi16(0x7fff);
    let (chunks, tail) = run.as_chunks::<16>();
    for x in chunks {
        if let Some(ahead) = ahead {
            _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().wrapping_add(ahead).cast());
        }
        most = _mm256_max_epu16(most, _mm256_and_si256(load_words(x), magnitude_bits));
    }
    if !tail.is_empty() {
        let mut x = [bf16::ZERO; 16];
        x[..tail.len()].copy_from_slice(tail);
        most = _mm256_max_epu16(most, _mm256_and_si256(load_words(&x), magnitude_bits));
    }
    most
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn largest_f32(most: __m256i) -> f32 {
    f32::from_bits(largest_lane(most))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn largest_bf16(most: __m256i) -> f32 {
    // The larger of the two words of each 32-bit lane, in its upper half.
    let other = _mm256_slli_epi32::<16>(most);
    f32::from_bits(largest_lane(_mm256_max_epu16(most, other)) & 0xffff_0000)
}

/// The largest 32-bit lane, unsigned.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn largest_lane(lanes: __m256i) -> u32 {
    let half = _mm_max_epu32(
        _mm256_castsi256_si128(lanes),
        _mm256_extracti128_si256::<1>(lanes),
    );
    let quarter = _mm_max_epu32(half, _mm_unpackhi_epi64(half, half));
    let one = _mm_max_epu32(quarter, _mm_srli_epi64::<32>(quarter));
    _mm_cvtsi128_si32(one).cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_f32(x: &[f32; 8]) -> __m256 {
    // SAFETY: the array is 32 readable bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_bf16(x: &[bf16; 8]) -> __m256 {
    // SAFETY: the array is 16 readable bytes, and the load needs no alignment.
    let words = unsafe { _mm_loadu_si128(x.as_ptr().cast()) };
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(words)))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_words(x: &[bf16; 16]) -> __m256i {
    // SAFETY: the array is 32 readable bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// The codes in the lower half.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_u8(x: &[u8; 8]) -> __m128i {
    _mm_set_epi64x(0, i64::from_le_bytes(*x))
}

/// Stores the lowest byte of each lane; the others are zero.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn store_u8(out: &mut [u8; 8], lanes: __m256i) {
    let words = _mm_packus_epi32(
        _mm256_castsi256_si128(lanes),
        _mm256_extracti128_si256::<1>(lanes),
    );
    *out = _mm_cvtsi128_si64(_mm_packus_epi16(words, words)).to_le_bytes();
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn store_f32(out: &mut [f32; 8], x: __m256) {
    // SAFETY: the array is 32 writable bytes, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn store_bf16(out: &mut [bf16; 8], x: __m256) {
    let lanes = _mm256_srli_epi32::<16>(round_to_bf16(x));
    let words = _mm_packus_epi32(
        _mm256_castsi256_si128(lanes),
        _mm256_extracti128_si256::<1>(lanes),
    );
    // SAFETY: the array is 16 writable bytes, and the store needs no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), words) }
}
