//! The scalar definition, element by element: for every machine, and the oracle of the other implementations.

use half::bf16;

use super::{Divide, Kernels};
use crate::{Format, Overflow, Rows, RowsMut, Scaled, Scales};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Kernels for Portable {
    fn amax_f32(self, src: Rows<'_, f32>, width: usize, amax: &mut [f32]) {
        // The bits of magnitudes are ordered as the magnitudes are, and NaN comes after infinity.
        largest(src, width, amax, |x| {
            f32::from_bits(x.to_bits() & 0x7fff_ffff)
        });
    }

    fn amax_bf16(self, src: Rows<'_, bf16>, width: usize, amax: &mut [f32]) {
        largest(src, width, amax, |x| {
            bf16::from_bits(x.to_bits() & 0x7fff).to_f32()
        });
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

    fn encode_scaled_f32(self, rule: Divide<'_>, src: Rows<'_, f32>, codes: RowsMut<'_, u8>) {
        for_each_scaled(rule.scales, src, codes, |scale, &x| {
            rule.of(scale).encode(x)
        });
    }

    fn encode_scaled_bf16(self, rule: Divide<'_>, src: Rows<'_, bf16>, codes: RowsMut<'_, u8>) {
        for_each_scaled(rule.scales, src, codes, |scale, x| {
            rule.of(scale).encode(x.to_f32())
        });
    }

    fn decode_scaled_f32(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, f32>,
    ) {
        let table = format.values();
        for_each_scaled(scales, codes, out, |scale, &code| {
            table[usize::from(code)] * scale
        });
    }

    fn decode_scaled_bf16(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, bf16>,
    ) {
        let table = format.values();
        for_each_scaled(scales, codes, out, |scale, &code| {
            bf16::from_f32(table[usize::from(code)] * scale)
        });
    }
}

impl Divide<'_> {
    fn of(&self, scale: f32) -> Scaled {
        Scaled {
            format: self.format,
            scale,
            quotient: self.quotient,
        }
    }
}

fn largest<T>(src: Rows<'_, T>, width: usize, amax: &mut [f32], magnitude: impl Fn(&T) -> f32) {
    amax.fill(0.0);
    for row in src.iter() {
        for (block, amax) in row.chunks(width).zip(&mut *amax) {
            let bits = block.iter().map(|x| magnitude(x).to_bits());
            *amax = f32::from_bits(bits.fold(amax.to_bits(), u32::max));
        }
    }
}

fn for_each<T, U>(src: Rows<'_, T>, mut dst: RowsMut<'_, U>, f: impl Fn(&T) -> U) {
    for (src, dst) in src.iter().zip(dst.iter_mut()) {
        for (x, y) in src.iter().zip(dst) {
            *y = f(x);
        }
    }
}

fn for_each_scaled<T, U>(
    scales: Scales<'_>,
    src: Rows<'_, T>,
    mut dst: RowsMut<'_, U>,
    f: impl Fn(f32, &T) -> U,
) {
    for (src, dst) in src.iter().zip(dst.iter_mut()) {
        let blocks = src.chunks(scales.width).zip(dst.chunks_mut(scales.width));
        for ((src, dst), &scale) in blocks.zip(scales.values) {
            for (x, y) in src.iter().zip(dst) {
                *y = f(scale, x);
            }
        }
    }
}
