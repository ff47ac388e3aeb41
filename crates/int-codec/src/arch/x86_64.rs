//! x86-64: the definition compiled for AVX2 and for AVX-512. A type is the proof that the processor has its instructions.
#![expect(
    unsafe_code,
    reason = "calls of functions that need AVX2 or AVX-512, and stores past the cache"
)]

use std::arch::x86_64::{
    __m256i, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm_sfence, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_sub_epi8,
    _mm256_xor_si256, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_cvtne2ps_pbh, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_stream_si512,
    _mm512_sub_epi32,
};
use std::mem::transmute;

use half::bf16;

use super::{Kernels, portable, portable::Run};
use crate::{Element, Groups, Quotient, Range};

/// Elements of BF16 in a line of the cache.
const LINE: usize = 32;

/// Codes by which a decoding loop asks for memory ahead of itself.
const AHEAD: usize = 2048;

/// Defines `$Name`, whose kernels are those of [`portable`] compiled with `$features`, but for `$decode_bf16`.
macro_rules! compiled_with {
    ($Name:ident, $features:literal, [$($feature:tt),+], $decode_bf16:path) => {
        #[doc = concat!("Proof that the processor has ", $features, ".")]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $Name(());

        impl $Name {
            pub(crate) fn new() -> Option<Self> {
                let all = $(is_x86_feature_detected!($feature))&&+;
                all.then_some(Self(()))
            }
        }

        impl Kernels for $Name {
            fn ranges<T: Element>(self, src: &[T], size: usize, ranges: &mut [Range]) {
                #[target_feature(enable = $features)]
                fn compiled<T: Element>(src: &[T], size: usize, ranges: &mut [Range]) {
                    portable::ranges(src, size, ranges);
                }
                // SAFETY: `self` exists only where `new` found the features.
                unsafe { compiled(src, size, ranges) }
            }

            fn encode<T: Element>(self, groups: Groups<'_>, how: Quotient, src: &[T], codes: &mut [u8]) {
                #[target_feature(enable = $features)]
                fn compiled<T: Element>(groups: Groups<'_>, how: Quotient, src: &[T], codes: &mut [u8]) {
                    let ahead = src.len();
                    // What follows a row is most often the next one, which the processor has time to fetch meanwhile.
                    let fetch = |part: &[T; portable::PART]| {
                        for line in part.chunks(64 / size_of::<T>()) {
                            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(ahead).cast());
                        }
                    };
                    portable::encode(groups, how, src, codes, fetch);
                }
                // SAFETY: `self` exists only where `new` found the features.
                unsafe { compiled(groups, how, src, codes) }
            }

            fn decode_f32(self, groups: Groups<'_>, codes: &[u8], out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn compiled(groups: Groups<'_>, codes: &[u8], out: &mut [f32]) {
                    portable::decode_f32(groups, codes, out);
                }
                // SAFETY: `self` exists only where `new` found the features.
                unsafe { compiled(groups, codes, out) }
            }

            fn decode_bf16(self, groups: Groups<'_>, codes: &[u8], out: &mut [bf16]) {
                #[target_feature(enable = $features)]
                fn compiled(groups: Groups<'_>, codes: &[u8], out: &mut [bf16]) {
                    $decode_bf16(groups, codes, out);
                }
                // SAFETY: `self` exists only where `new` found the features.
                unsafe { compiled(groups, codes, out) }
            }

            fn pack(self, codes: &[u8], bytes: &mut [u8]) {
                #[target_feature(enable = $features)]
                fn compiled(codes: &[u8], bytes: &mut [u8]) {
                    portable::pack(codes, bytes);
                }
                // SAFETY: `self` exists only where `new` found the features.
                unsafe { compiled(codes, bytes) }
            }

            fn unpack(self, bytes: &[u8], codes: &mut [u8]) {
                #[target_feature(enable = $features)]
                fn compiled(bytes: &[u8], codes: &mut [u8]) {
                    portable::unpack(bytes, codes);
                }
                // SAFETY: `self` exists only where `new` found the features.
                unsafe { compiled(bytes, codes) }
            }
        }
    };
}

compiled_with!(Avx2, "avx2", ["avx2"], portable::decode_bf16);
compiled_with!(
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl",
    ["avx512f", "avx512bw", "avx512dq", "avx512vl"],
    portable::decode_bf16
);
compiled_with!(
    Avx512Bf16,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16",
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16"],
    decode_bf16_past_cache
);

/// A line of the cache.
#[repr(align(64))]
struct Line([bf16; LINE]);

/// [`portable::decode_bf16`] that rounds with the instruction for it, and writes whole lines past the cache, which then need
/// not be fetched first.
///
/// The instruction takes a subnormal number for zero, so groups in which there may be one are left to the definition.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn decode_bf16_past_cache(groups: Groups<'_>, codes: &[u8], out: &mut [bf16]) {
    let parts = codes.chunks(groups.size).zip(out.chunks_mut(groups.size));
    for (at, (codes, out)) in parts.enumerate() {
        let run = groups.run(at);
        // No product but zero is smaller than the scale.
        if run.scale.is_nan() || run.scale < f32::MIN_POSITIVE {
            portable::decode_run_bf16(run, codes, out);
            continue;
        }
        // SAFETY: any bytes of a `Line` are elements, and it has no other bytes.
        let (head, lines, tail) = unsafe { out.align_to_mut::<Line>() };
        let (of_head, codes) = codes.split_at(head.len());
        let (of_lines, of_tail) = codes.as_chunks::<LINE>();
        portable::decode_run_bf16(run, of_head, head);
        match run.in_bytes(groups.bits) {
            true => stream_lines(run, of_lines, lines, |codes| {
                differences_of_bytes(run, codes)
            }),
            false => stream_lines(run, of_lines, lines, |codes| differences(run, codes)),
        }
        portable::decode_run_bf16(run, of_tail, tail);
    }
    _mm_sfence();
}

impl Run {
    /// Whether every code less the zero point is a number of eight bits.
    fn in_bytes(self, bits: u8) -> bool {
        bits < 8 || self.zero == 0x80
    }
}

/// Writes `differences` times the scale past the cache, rounded to BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn stream_lines(
    run: Run,
    codes: &[[u8; LINE]],
    lines: &mut [Line],
    differences: impl Fn(&[u8; LINE]) -> [__m512i; 2],
) {
    let scale = _mm512_set1_ps(run.scale);
    for (line, codes) in lines.iter_mut().zip(codes) {
        _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().wrapping_add(AHEAD).cast());
        let [low, high] = differences(codes).map(|x| _mm512_mul_ps(_mm512_cvtepi32_ps(x), scale));
        let rounded = _mm512_cvtne2ps_pbh(high, low);
        // SAFETY: both types are 64 bytes of which any are valid.
        let rounded = unsafe { transmute::<__m512bh, __m512i>(rounded) };
        // SAFETY: the line is 64 writable bytes aligned to 64, and nobody reads it before the fence.
        unsafe { _mm512_stream_si512(line.0.as_mut_ptr().cast(), rounded) }
    }
}

/// Codes less the zero point, where that is a number of eight bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn differences_of_bytes(run: Run, codes: &[u8; LINE]) -> [__m512i; 2] {
    let flip = _mm256_set1_epi8(run.flip.cast_signed());
    // The lowest eight bits of the zero point; a difference of eight bits is right whatever is carried out of them.
    let zero = _mm256_set1_epi8(run.zero as i8);
    let differences = _mm256_sub_epi8(_mm256_xor_si256(load(codes), flip), zero);
    [
        _mm512_cvtepi8_epi32(_mm256_castsi256_si128(differences)),
        _mm512_cvtepi8_epi32(_mm256_extracti128_si256::<1>(differences)),
    ]
}

/// Codes less the zero point.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn differences(run: Run, codes: &[u8; LINE]) -> [__m512i; 2] {
    let flip = _mm256_set1_epi8(run.flip.cast_signed());
    let codes = _mm256_xor_si256(load(codes), flip);
    let zero = _mm512_set1_epi32(run.zero);
    [
        _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(codes)), zero),
        _mm512_sub_epi32(
            _mm512_cvtepu8_epi32(_mm256_extracti128_si256::<1>(codes)),
            zero,
        ),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn load(codes: &[u8; LINE]) -> __m256i {
    // SAFETY: the array is 32 readable bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) }
}
