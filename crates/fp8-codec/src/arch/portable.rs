//! The scalar definition, element by element: for every machine, and the oracle of the other implementations.

use half::bf16;

use super::Kernels;
use crate::{Format, Overflow, Rows, RowsMut, Scaled};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Kernels for Portable {
    fn amax_f32(self, src: Rows<'_, f32>) -> f32 {
        // The bits of magnitudes are ordered as the magnitudes are, and NaN comes after infinity.
        let magnitudes = src.iter().flatten().map(|x| x.to_bits() & 0x7fff_ffff);
        f32::from_bits(magnitudes.max().unwrap_or(0))
    }

    fn amax_bf16(self, src: Rows<'_, bf16>) -> f32 {
        let magnitudes = src.iter().flatten().map(|x| x.to_bits() & 0x7fff);
        bf16::from_bits(magnitudes.max().unwrap_or(0)).to_f32()
    }

    fn encode_f32(
        self,
        format: Format,
        overflow: Overflow,
        src: Rows<'_, f32>,
        codes: RowsMut<'_, u8>,
    ) {
        for_each(src, codes, |&x| format.encode(x, overflow));
    }

    fn encode_bf16(
        self,
        format: Format,
        overflow: Overflow,
        src: Rows<'_, bf16>,
        codes: RowsMut<'_, u8>,
    ) {
        for_each(src, codes, |x| format.encode(x.to_f32(), overflow));
    }

    fn encode_scaled_f32(self, rule: &Scaled, src: Rows<'_, f32>, codes: RowsMut<'_, u8>) {
        for_each(src, codes, |&x| rule.encode(x));
    }

    fn encode_scaled_bf16(self, rule: &Scaled, src: Rows<'_, bf16>, codes: RowsMut<'_, u8>) {
        for_each(src, codes, |x| rule.encode(x.to_f32()));
    }

    fn decode_scaled_f32(
        self,
        format: Format,
        scale: f32,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, f32>,
    ) {
        let table = products(format, scale);
        for_each(codes, out, |&code| table[usize::from(code)]);
    }

    fn decode_scaled_bf16(
        self,
        format: Format,
        scale: f32,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, bf16>,
    ) {
        let table = products(format, scale).map(bf16::from_f32);
        for_each(codes, out, |&code| table[usize::from(code)]);
    }
}

/// Every code times the scale.
fn products(format: Format, scale: f32) -> [f32; 256] {
    let mut code = 0u8;
    [(); 256].map(|()| {
        let value = format.decode(code);
        code = code.wrapping_add(1);
        value * scale
    })
}

fn for_each<T, U>(src: Rows<'_, T>, mut dst: RowsMut<'_, U>, f: impl Fn(&T) -> U) {
    for (src, dst) in src.iter().zip(dst.iter_mut()) {
        for (x, y) in src.iter().zip(dst) {
            *y = f(x);
        }
    }
}
