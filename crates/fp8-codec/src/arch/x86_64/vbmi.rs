//! AVX-512 VBMI: sixty-four elements at a time through a table of one scale's 128 results.
//!
//! Encoding. A bf16 has 128 mantissas. While x / s is a normal number of the format, its code depends on the exponent of x
//! only by a shift, `code = (exponent − constant) << mantissa bits | + table[mantissa]`, because f32 division commutes with
//! powers of two. The table is made by the arithmetic kernel, so there is no second definition of rounding. Sixty-four
//! elements of which one is too small, infinite or NaN go through the arithmetic kernel.
//!
//! Decoding to bf16. A code has 128 magnitudes; the products with the scale are looked up.
//!
//! Everything else, and runs too short to be worth a table, is [`Avx512`]'s. This file needs no unsafe code but to enter.
#![expect(unsafe_code, reason = "calls of functions that need AVX-512 VBMI")]
#![allow(
    clippy::wildcard_imports,
    reason = "a vector kernel is written in intrinsics"
)]

use std::{arch::x86_64::*, ops::Range};

use half::bf16;

use super::{
    DIVIDE, DIVIDE_THEN_BF16, GROUP, ROWS_AHEAD, Rule,
    avx512::{Avx512, decode_run_bf16, encode_run_bf16, load_bytes, load_words},
    for_format,
    lines::{Destination, LineWriter, fence},
    prefetch_distance,
};
use crate::{
    Format, Overflow, Quotient, Rows, RowsMut, Scales,
    arch::{Divide, Kernels},
    minifloat::Layout,
};

/// Elements of a block from which on a table pays.
const WORTH_A_TABLE: usize = 512;

/// Elements that a table kernel takes at a time.
const STEP_SIZE: usize = 64;

/// Proof that the processor has AVX-512 VBMI beside [`Avx512`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vbmi {
    avx512: Avx512,
    /// Results of a table are written past the cache.
    streaming: bool,
}

impl Vbmi {
    pub(crate) fn new() -> Option<Self> {
        let avx512 = Avx512::new()?;
        is_x86_feature_detected!("avx512vbmi").then_some(Self {
            avx512,
            streaming: false,
        })
    }

    pub(crate) const fn streaming(self) -> Self {
        Self {
            streaming: true,
            ..self
        }
    }
}

impl Kernels for Vbmi {
    fn amax_f32(self, src: Rows<'_, f32>, width: usize, amax: &mut [f32]) {
        self.avx512.amax_f32(src, width, amax);
    }

    fn amax_bf16(self, src: Rows<'_, bf16>, width: usize, amax: &mut [f32]) {
        self.avx512.amax_bf16(src, width, amax);
    }

    fn encode_f32(
        self,
        format: Format,
        overflow: Overflow,
        src: Rows<'_, f32>,
        codes: RowsMut<'_, u8>,
    ) {
        self.avx512.encode_f32(format, overflow, src, codes);
    }

    fn encode_bf16(
        self,
        format: Format,
        overflow: Overflow,
        src: Rows<'_, bf16>,
        codes: RowsMut<'_, u8>,
    ) {
        self.avx512.encode_bf16(format, overflow, src, codes);
    }

    fn encode_scaled_f32(self, rule: Divide<'_>, src: Rows<'_, f32>, codes: RowsMut<'_, u8>) {
        self.avx512.encode_scaled_f32(rule, src, codes);
    }

    fn encode_scaled_bf16(self, rule: Divide<'_>, src: Rows<'_, bf16>, codes: RowsMut<'_, u8>) {
        if !worth_a_table(&rule.scales, &src) {
            return self.avx512.encode_scaled_bf16(rule, src, codes);
        }
        for_format!(rule.format, L => match rule.quotient {
            // SAFETY: `self` exists only where `new` found the features.
            Quotient::F32 => unsafe { encode::<L, DIVIDE>(self.streaming, rule.scales, src, codes) },
            // SAFETY: as above.
            Quotient::Bf16 => unsafe { encode::<L, DIVIDE_THEN_BF16>(self.streaming, rule.scales, src, codes) },
        });
    }

    fn decode_scaled_f32(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, f32>,
    ) {
        self.avx512.decode_scaled_f32(format, scales, codes, out);
    }

    fn decode_scaled_bf16(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, bf16>,
    ) {
        if !worth_a_table(&scales, &codes) {
            return self.avx512.decode_scaled_bf16(format, scales, codes, out);
        }
        // SAFETY: `self` exists only where `new` found the features.
        for_format!(format, L => unsafe { decode::<L>(self.streaming, scales, codes, out) });
    }
}

/// Whether blocks have enough elements, and begin at multiples of the step of the table kernels.
fn worth_a_table<T>(scales: &Scales<'_>, src: &Rows<'_, T>) -> bool {
    let width = scales.width;
    src.count() * width >= WORTH_A_TABLE
        && (width.is_multiple_of(STEP_SIZE) || scales.values.len() == 1)
}

/// For one scale s = t·2^shift with t in (0.5, 1]: what the table is made with, and where it holds.
#[derive(Clone, Copy)]
struct Bounds {
    /// t; so that every mantissa 1.m has a quotient 1.m / t of at least 1.
    reduced_scale: f32,
    /// The smallest biased exponent of x for which x / s surely is normal. The largest is 254.
    least_exponent: u8,
}

impl Bounds {
    /// Nothing where the scale or the bound would leave the normal numbers.
    fn new<L: Layout>(scale: f32) -> Option<Self> {
        if !scale.is_normal() {
            return None;
        }
        let (exponent, mantissa) = (scale.to_bits() >> 23, scale.to_bits() & 0x7f_ffff);
        let (reduced_scale, exponent_of_unit) = match mantissa {
            0 => (1.0, exponent),
            _ => (f32::from_bits(126 << 23 | mantissa), exponent + 1),
        };
        // An x of this exponent has the quotient 1.m / t * 2^(1 - bias), the smallest normal number or more.
        let least_exponent = u8::try_from((exponent_of_unit + 1).checked_sub(L::BIAS)?).ok()?;
        (1..=250).contains(&least_exponent).then_some(Self {
            reduced_scale,
            least_exponent,
        })
    }
}

/// What encodes the elements of one scale.
#[derive(Clone, Copy)]
struct Encoder {
    scale: f32,
    /// Where the table holds; nothing if it never does.
    bounds: Option<Bounds>,
    /// For each mantissa, the code of 1.m / t minus the code of 1, plus the code of the smallest normal number.
    table: [__m512i; 2],
}

impl Encoder {
    fn rule<L: Layout>(&self) -> Rule {
        Rule {
            divisor: self.scale,
            limit: L::MAX,
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn encode<L: Layout, const STEP: u8>(
    streaming: bool,
    scales: Scales<'_>,
    src: Rows<'_, bf16>,
    mut codes: RowsMut<'_, u8>,
) {
    let mut encoders = [encoder::<L, STEP>(1.0); GROUP];
    let ahead = prefetch_distance(&src).map_or(0, |_| ROWS_AHEAD * codes.stride());
    let destination = Destination { streaming, ahead };
    for (group, values) in scales.values.chunks(GROUP).enumerate() {
        for (encoder, &scale) in encoders.iter_mut().zip(values) {
            *encoder = self::encoder::<L, STEP>(scale);
        }
        let columns = columns_of_group(&scales, group, src.width());
        let encoders = &encoders[..values.len()];
        for (src, codes) in src.iter().zip(codes.iter_mut()) {
            let (src, codes) = (&src[columns.clone()], &mut codes[columns.clone()]);
            encode_row::<L, STEP>(destination, encoders, scales.width, src, codes);
        }
    }
    fence();
}

/// The columns of the blocks that are worked on together.
fn columns_of_group(scales: &Scales<'_>, group: usize, cols: usize) -> Range<usize> {
    let first = group * GROUP * scales.width;
    first..cols.min(first + GROUP * scales.width)
}

/// Encodes a row of blocks of `width` columns, each by its encoder.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn encode_row<L: Layout, const STEP: u8>(
    destination: Destination,
    encoders: &[Encoder],
    width: usize,
    src: &[bf16],
    codes: &mut [u8],
) {
    let whole = src.len() - src.len() % STEP_SIZE;
    let (src, src_tail) = src.split_at(whole);
    let (codes, codes_tail) = codes.split_at_mut(whole);
    let mut writer = LineWriter::new(codes, destination);
    for (block, encoder) in src.chunks(width).zip(encoders) {
        for x in block.as_chunks::<STEP_SIZE>().0 {
            writer.put(encode_step::<L, STEP>(encoder, x));
        }
    }
    writer.finish();
    if let (Some(encoder), false) = (encoders.last(), src_tail.is_empty()) {
        encode_run_bf16::<L, STEP>(encoder.rule::<L>(), src_tail, codes_tail);
    }
}

/// The codes of 64 elements in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn encode_step<L: Layout, const STEP: u8>(encoder: &Encoder, x: &[bf16; STEP_SIZE]) -> __m512i {
    if let Some(bounds) = encoder.bounds
        && let Some(codes) = look_up::<L>(encoder.table, bounds, x)
    {
        codes
    } else {
        encode_by_arithmetic::<L, STEP>(encoder.rule::<L>(), x)
    }
}

/// [`encode_step`] by the table, unless one of the elements is outside its bounds.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn look_up<L: Layout>(
    table: [__m512i; 2],
    bounds: Bounds,
    x: &[bf16; STEP_SIZE],
) -> Option<__m512i> {
    let [first, second] = halves(x);
    let (first, second) = (load_words(first), load_words(second));
    // Pack the low and the high bytes of all words; eight elements of each half alternate.
    let low_byte = _mm512_set1_epi16(0xff);
    let low = _mm512_packus_epi16(
        _mm512_and_si512(first, low_byte),
        _mm512_and_si512(second, low_byte),
    );
    let high = _mm512_packus_epi16(
        _mm512_srli_epi16::<8>(first),
        _mm512_srli_epi16::<8>(second),
    );
    // The exponent's lowest bit is the sign bit of the low byte.
    let twice = _mm512_add_epi8(high, high);
    let odd = _mm512_movepi8_mask(low);
    let exponent = _mm512_mask_add_epi8(twice, odd, twice, _mm512_set1_epi8(1));

    let least = _mm512_set1_epi8(bounds.least_exponent.cast_signed());
    let binade = _mm512_sub_epi8(exponent, least);
    let binades = _mm512_set1_epi8((255 - bounds.least_exponent).cast_signed());
    if _mm512_cmplt_epu8_mask(binade, binades) != u64::MAX {
        return None;
    }
    let overflow = _mm512_set1_epi8(if L::MANTISSA_BITS == 3 { 16 } else { 32 });
    let binade = _mm512_min_epu8(binade, overflow);
    let binade = if L::MANTISSA_BITS == 3 {
        _mm512_slli_epi16::<3>(binade)
    } else {
        _mm512_slli_epi16::<2>(binade)
    };
    // The look-up ignores the upper bit of an index.
    let mantissa = _mm512_permutex2var_epi8(table[0], low, table[1]);
    let code = _mm512_add_epi8(binade, mantissa);
    let code = _mm512_min_epu8(code, _mm512_set1_epi8(L::MAX_CODE.cast_signed()));
    // code | (high & 0x80)
    let code = _mm512_ternarylogic_epi32::<0xf8>(code, high, _mm512_set1_epi8(i8::MIN));
    let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    Some(_mm512_permutexvar_epi64(order, code))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn encoder<L: Layout, const STEP: u8>(scale: f32) -> Encoder {
    let bounds = Bounds::new::<L>(scale);
    let mut mantissas = [bf16::ONE; 128];
    for (m, x) in (0u16..).zip(&mut mantissas) {
        *x = bf16::from_bits(0x3f80 | m);
    }
    let rule = Rule {
        divisor: bounds.map_or(1.0, |bounds| bounds.reduced_scale),
        limit: L::MAX,
    };
    let mut codes = [0; 128];
    encode_run_bf16::<L, STEP>(rule, &mantissas, &mut codes);
    let excess = (L::BIAS - 1) << L::MANTISSA_BITS;
    let excess = _mm512_set1_epi8(u8::try_from(excess).expect("a code").cast_signed());
    let table = load_table(&codes);
    Encoder {
        scale,
        bounds,
        table: [
            _mm512_sub_epi8(table[0], excess),
            _mm512_sub_epi8(table[1], excess),
        ],
    }
}

/// [`encode_step`] by the arithmetic kernel.
#[cold]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn encode_by_arithmetic<L: Layout, const STEP: u8>(rule: Rule, x: &[bf16; STEP_SIZE]) -> __m512i {
    let mut codes = [0; STEP_SIZE];
    encode_run_bf16::<L, STEP>(rule, x, &mut codes);
    load_bytes(&codes)
}

/// What decodes the elements of one scale: the low and the high bytes of the 128 magnitudes times the scale, in bf16.
#[derive(Clone, Copy)]
struct Decoder {
    scale: f32,
    low: [__m512i; 2],
    high: [__m512i; 2],
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn decode<L: Layout>(
    streaming: bool,
    scales: Scales<'_>,
    codes: Rows<'_, u8>,
    mut out: RowsMut<'_, bf16>,
) {
    let mut decoders = [decoder::<L>(1.0); GROUP];
    let ahead = prefetch_distance(&codes).unwrap_or(0);
    let destination = Destination {
        streaming,
        ahead: match ahead {
            0 => 0,
            _ => ROWS_AHEAD * out.stride() * size_of::<bf16>(),
        },
    };
    for (group, values) in scales.values.chunks(GROUP).enumerate() {
        for (decoder, &scale) in decoders.iter_mut().zip(values) {
            *decoder = self::decoder::<L>(scale);
        }
        let columns = columns_of_group(&scales, group, codes.width());
        let decoders = &decoders[..values.len()];
        for (codes, out) in codes.iter().zip(out.iter_mut()) {
            let (codes, out) = (&codes[columns.clone()], &mut out[columns.clone()]);
            decode_row::<L>(destination, decoders, scales.width, ahead, codes, out);
        }
    }
    fence();
}

/// Decodes a row of blocks of `width` columns, each by its decoder. Prefetches at the distance `ahead`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn decode_row<L: Layout>(
    destination: Destination,
    decoders: &[Decoder],
    width: usize,
    ahead: usize,
    codes: &[u8],
    out: &mut [bf16],
) {
    let whole = codes.len() - codes.len() % STEP_SIZE;
    let (codes, codes_tail) = codes.split_at(whole);
    let (out, out_tail) = out.split_at_mut(whole);
    let mut writer = LineWriter::new(out, destination);
    for (block, decoder) in codes.chunks(width).zip(decoders) {
        for codes in block.as_chunks::<STEP_SIZE>().0 {
            _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().wrapping_add(ahead).cast());
            let [first, second] = decode_step(decoder, codes);
            writer.put(first);
            writer.put(second);
        }
    }
    writer.finish();
    if let (Some(decoder), false) = (decoders.last(), codes_tail.is_empty()) {
        decode_run_bf16::<L>(decoder.scale, codes_tail, out_tail);
    }
}

/// The values of 64 codes in order, as bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn decode_step(decoder: &Decoder, codes: &[u8; STEP_SIZE]) -> [__m512i; 2] {
    // So that interleaving low and high bytes within 128-bit lanes gives the words in order.
    let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    let codes = _mm512_permutexvar_epi64(order, load_bytes(codes));
    let low = _mm512_permutex2var_epi8(decoder.low[0], codes, decoder.low[1]);
    let high = _mm512_permutex2var_epi8(decoder.high[0], codes, decoder.high[1]);
    // high ^ (codes & 0x80)
    let high = _mm512_ternarylogic_epi32::<0x78>(high, codes, _mm512_set1_epi8(i8::MIN));
    [
        _mm512_unpacklo_epi8(low, high),
        _mm512_unpackhi_epi8(low, high),
    ]
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn decoder<L: Layout>(scale: f32) -> Decoder {
    let mut codes = [0; 128];
    for (code, c) in (0u8..).zip(&mut codes) {
        *c = code;
    }
    let mut products = [bf16::ZERO; 128];
    decode_run_bf16::<L>(scale, &codes, &mut products);
    let bytes = products.map(|product| product.to_bits().to_le_bytes());
    Decoder {
        scale,
        low: load_table(&bytes.map(|b| b[0])),
        high: load_table(&bytes.map(|b| b[1])),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn load_table(bytes: &[u8; 128]) -> [__m512i; 2] {
    let [first, second] = halves(bytes);
    [load_bytes(first), load_bytes(second)]
}

/// The two halves of an array of 64 or 128.
#[inline]
fn halves<T, const N: usize, const HALF: usize>(all: &[T; N]) -> [&[T; HALF]; 2] {
    match all.as_chunks::<HALF>() {
        ([first, second], []) => [first, second],
        _ => unreachable!("N is twice HALF"),
    }
}
