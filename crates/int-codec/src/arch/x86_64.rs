//! x86-64: the definition compiled for AVX2 and for AVX-512. A type is the proof that the processor has its instructions.
#![expect(
    unsafe_code,
    reason = "calls of functions that need AVX2 or AVX-512, and stores past the cache"
)]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm_sfence, _mm512_cvtne2ps_pbh,
    _mm512_loadu_ps, _mm512_stream_si512,
};
use std::mem::transmute;

use half::bf16;

use super::{Kernels, portable};
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
        for (line, codes) in lines.iter_mut().zip(of_lines) {
            _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().wrapping_add(AHEAD).cast());
            let mut values = [0.0; LINE];
            portable::decode_run_f32(run, codes, &mut values);
            let (low, high) = (load(&values, 0), load(&values, LINE / 2));
            let rounded = _mm512_cvtne2ps_pbh(high, low);
            // SAFETY: both types are 64 bytes of which any are valid.
            let rounded = unsafe { transmute::<__m512bh, __m512i>(rounded) };
            // SAFETY: the line is 64 writable bytes aligned to 64, and nobody reads it before the fence.
            unsafe { _mm512_stream_si512(line.0.as_mut_ptr().cast(), rounded) }
        }
        portable::decode_run_bf16(run, of_tail, tail);
    }
    _mm_sfence();
}

/// Half of a line's values.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32; LINE], first: usize) -> __m512 {
    let half = &values[first..][..LINE / 2];
    // SAFETY: the slice is 64 readable bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(half.as_ptr()) }
}
