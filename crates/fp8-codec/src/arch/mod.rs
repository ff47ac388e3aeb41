//! One implementation of the slice operations per instruction set.

pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

use half::bf16;

use crate::{Format, Overflow, Quotient, Rows, RowsMut, Scales};

/// The slice operations. [`crate::Codec`] documents them, and has checked that source and destination have one shape,
/// that there is one scale or result for each block, and that a scale to divide by is positive and finite.
pub(crate) trait Kernels: Copy {
    fn amax_f32(self, src: Rows<'_, f32>, width: usize, amax: &mut [f32]);
    fn amax_bf16(self, src: Rows<'_, bf16>, width: usize, amax: &mut [f32]);
    fn encode_f32(
        self,
        format: Format,
        overflow: Overflow,
        src: Rows<'_, f32>,
        codes: RowsMut<'_, u8>,
    );
    fn encode_bf16(
        self,
        format: Format,
        overflow: Overflow,
        src: Rows<'_, bf16>,
        codes: RowsMut<'_, u8>,
    );
    fn encode_scaled_f32(self, rule: Divide<'_>, src: Rows<'_, f32>, codes: RowsMut<'_, u8>);
    fn encode_scaled_bf16(self, rule: Divide<'_>, src: Rows<'_, bf16>, codes: RowsMut<'_, u8>);
    fn decode_scaled_f32(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, f32>,
    );
    fn decode_scaled_bf16(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: Rows<'_, u8>,
        out: RowsMut<'_, bf16>,
    );
}

/// [`crate::Scaled`] for a row of blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Divide<'a> {
    pub(crate) format: Format,
    pub(crate) scales: Scales<'a>,
    pub(crate) quotient: Quotient,
}
