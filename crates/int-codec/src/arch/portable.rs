//! The definition. Its loops are written so that a compiler makes vectors of them, and are compiled once more for each
//! larger instruction set; so all sets do the same operations in the same order on every element.
#![expect(
    clippy::inline_always,
    reason = "a loop must be compiled with the features of the function that calls it"
)]

use half::{bf16, f16};

use super::Kernels;
use crate::{Element, Groups, Quotient, Range};

/// What every processor of the target can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Kernels for Portable {
    fn ranges<T: Element>(self, src: &[T], size: usize, found: &mut [Range]) {
        ranges(src, size, found);
    }

    fn encode<T: Element>(self, groups: Groups<'_>, how: Quotient, src: &[T], codes: &mut [u8]) {
        encode(groups, how, src, codes, |_| ());
    }

    fn decode_f32(self, groups: Groups<'_>, codes: &[u8], out: &mut [f32]) {
        decode_f32(groups, codes, out);
    }

    fn decode_bf16(self, groups: Groups<'_>, codes: &[u8], out: &mut [bf16]) {
        decode_bf16(groups, codes, out);
    }

    fn pack(self, codes: &[u8], bytes: &mut [u8]) {
        pack(codes, bytes);
    }

    fn unpack(self, bytes: &[u8], codes: &mut [u8]) {
        unpack(bytes, codes);
    }
}

#[inline(always)]
pub(super) fn ranges<T: Element>(src: &[T], size: usize, found: &mut [Range]) {
    for (values, found) in src.chunks(size).zip(found) {
        *found = range(values);
    }
}

#[inline(always)]
fn range<T: Element>(values: &[T]) -> Range {
    const LANES: usize = 32;
    let (mut least, mut most) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let mut magnitude = [0_i32; LANES];
    let mut see = |i: usize, x: T| {
        let x = x.widen();
        // As comparisons, which are an instruction each.
        least[i] = if x < least[i] { x } else { least[i] };
        most[i] = if x > most[i] { x } else { most[i] };
        // The bits of magnitudes are ordered as the magnitudes are, with infinity and NaN at the end.
        magnitude[i] = magnitude[i].max(x.abs().to_bits().cast_signed());
    };
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (i, x) in chunk.iter().enumerate() {
            see(i, *x);
        }
    }
    for (i, x) in rest.iter().enumerate() {
        see(i, *x);
    }
    let magnitude = to_one(magnitude, i32::max);
    Range {
        least: to_one(least, |a, b| if a < b { a } else { b }),
        most: to_one(most, |a, b| if a > b { a } else { b }),
        finite: magnitude < f32::INFINITY.to_bits().cast_signed(),
    }
}

/// Thirty-two numbers by halves to one.
#[inline(always)]
fn to_one<T: Copy>(x: [T; 32], f: impl Fn(T, T) -> T + Copy) -> T {
    #[inline(always)]
    fn half<T: Copy, const N: usize, const M: usize>(x: [T; N], f: impl Fn(T, T) -> T) -> [T; M] {
        std::array::from_fn(|i| f(x[i], x[i + M]))
    }
    let x: [T; 16] = half(x, f);
    let x: [T; 8] = half(x, f);
    let x: [T; 4] = half(x, f);
    let [a, b]: [T; 2] = half(x, f);
    f(a, b)
}

/// Calls `fetch` with each part before it encodes it.
#[inline(always)]
pub(super) fn encode<T: Element>(
    groups: Groups<'_>,
    how: Quotient,
    src: &[T],
    codes: &mut [u8],
    fetch: impl Fn(&[T; PART]) + Copy,
) {
    match how {
        Quotient::F32 => encode_with(groups, src, codes, fetch, |x| x),
        Quotient::Bf16 => encode_with(groups, src, codes, fetch, bf16_round),
        Quotient::F16 => {
            encode_with(groups, src, codes, fetch, |x| f16::from_f32(x).to_f32());
        }
    }
}

#[inline(always)]
fn encode_with<T: Element>(
    groups: Groups<'_>,
    src: &[T],
    codes: &mut [u8],
    fetch: impl Fn(&[T; PART]) + Copy,
    round: impl Fn(f32) -> f32 + Copy,
) {
    let middle = f32::from(groups.middle());
    let (low, high) = (-middle, middle - 1.0);
    let code = |quotient: f32| {
        // Comparisons and not `clamp`, which would stop the vectors to check its bounds.
        let above = if quotient > low { quotient } else { low };
        to_code(if above < high { above } else { high }, middle)
    };
    let parts = src.chunks(groups.size).zip(codes.chunks_mut(groups.size));
    for (at, (src, codes)) in parts.enumerate() {
        let run = groups.run(at);
        let zero = run.zero as f32 - middle;
        if zero == 0.0 {
            let code = |x: T| code(round(x.widen() / run.scale)) ^ run.flip;
            each_part(src, codes, fetch, code);
        } else {
            let code = |x: T| code(round(round(x.widen() / run.scale) + zero)) ^ run.flip;
            each_part(src, codes, fetch, code);
        }
    }
}

/// Elements that a loop of vectors takes together.
pub(super) const PART: usize = 64;

#[inline(always)]
fn each_part<T: Copy>(
    src: &[T],
    codes: &mut [u8],
    fetch: impl Fn(&[T; PART]),
    code: impl Fn(T) -> u8,
) {
    let (parts, rest) = src.as_chunks::<PART>();
    let (of_parts, of_rest) = codes.as_chunks_mut::<PART>();
    for (src, codes) in parts.iter().zip(of_parts) {
        fetch(src);
        for (to, x) in codes.iter_mut().zip(src) {
            *to = code(*x);
        }
    }
    for (to, x) in of_rest.iter_mut().zip(rest) {
        *to = code(*x);
    }
}

/// Rounds to nearest even and shifts into the unsigned range.
///
/// The sum with 1.5 × 2^23 is a rounding that every machine has as a vector, and leaves the integer in the lowest bits.
/// The shift is even, so ties go where they would without it.
#[inline(always)]
fn to_code(x: f32, middle: f32) -> u8 {
    const ROUND: f32 = 12_582_912.0;
    (x + (ROUND + middle)).to_bits() as u8
}

#[inline(always)]
pub(super) fn decode_f32(groups: Groups<'_>, codes: &[u8], out: &mut [f32]) {
    let parts = codes.chunks(groups.size).zip(out.chunks_mut(groups.size));
    for (at, (codes, out)) in parts.enumerate() {
        decode_run_f32(groups.run(at), codes, out);
    }
}

#[inline(always)]
pub(super) fn decode_bf16(groups: Groups<'_>, codes: &[u8], out: &mut [bf16]) {
    let parts = codes.chunks(groups.size).zip(out.chunks_mut(groups.size));
    for (at, (codes, out)) in parts.enumerate() {
        decode_run_bf16(groups.run(at), codes, out);
    }
}

/// [`decode_f32`] of one group or a part of it.
#[inline(always)]
pub(super) fn decode_run_f32(run: Run, codes: &[u8], out: &mut [f32]) {
    for (out, code) in out.iter_mut().zip(codes) {
        *out = run.value(*code);
    }
}

/// [`decode_bf16`] of one group or a part of it.
#[inline(always)]
pub(super) fn decode_run_bf16(run: Run, codes: &[u8], out: &mut [bf16]) {
    for (out, code) in out.iter_mut().zip(codes) {
        let rounded = bf16_round(run.value(*code));
        *out = bf16::from_bits((rounded.to_bits() >> 16) as u16);
    }
}

/// What governs the codes of a group.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) scale: f32,
    pub(super) zero: i32,
    /// The bit in which the codes differ from offset binary.
    pub(super) flip: u8,
}

impl Run {
    #[inline(always)]
    fn value(self, code: u8) -> f32 {
        (i32::from(code ^ self.flip) - self.zero) as f32 * self.scale
    }
}

impl Groups<'_> {
    #[inline(always)]
    pub(super) fn run(&self, at: usize) -> Run {
        Run {
            scale: self.scales[at],
            zero: i32::from(self.zeros.map_or(self.middle(), |zeros| zeros[at])),
            flip: if self.signed { self.middle() } else { 0 },
        }
    }
}

/// Rounds a number that is not NaN to BF16, to nearest even.
#[inline(always)]
fn bf16_round(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

#[inline(always)]
pub(super) fn pack(codes: &[u8], bytes: &mut [u8]) {
    let (pairs, rest) = codes.as_chunks::<2>();
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let pair = u16::from_le_bytes(*pair) & 0x0f0f;
        *byte = (pair | pair >> 4) as u8;
    }
    if let ([last], Some(byte)) = (rest, bytes.get_mut(pairs.len())) {
        *byte = last & 0xf;
    }
}

#[inline(always)]
pub(super) fn unpack(bytes: &[u8], codes: &mut [u8]) {
    let (pairs, rest) = codes.as_chunks_mut::<2>();
    if let ([last], Some(byte)) = (rest, bytes.get(pairs.len())) {
        *last = byte & 0xf;
    }
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        let byte = u16::from(*byte);
        *pair = ((byte | byte << 4) & 0x0f0f).to_le_bytes();
    }
}
