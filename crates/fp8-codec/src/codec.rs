//! The slice operations, and the choice of their implementation.

use std::sync::OnceLock;

use half::bf16;

#[cfg(target_arch = "x86_64")]
use crate::arch::x86_64::{avx2::Avx2, avx512::Avx512, vbmi::Vbmi};
use crate::{
    Format, Overflow, Quotient, Rows, RowsMut, Scaled, Scales,
    arch::{Divide, Kernels, portable::Portable},
};

/// One implementation of the slice operations: [`Codec::best`] unless a test or a benchmark wants a certain one.
///
/// All implementations give the same bits. Every operation takes plain slices or [`Rows`] of a larger matrix.
///
/// **Panics** source and destination must have equal numbers of rows and columns; every method checks that.
#[derive(Clone, Copy, Debug)]
pub struct Codec(Implementation);

#[derive(Clone, Copy, Debug)]
enum Implementation {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Vbmi(Vbmi),
}

/// Calls a method of whichever implementation `$codec` holds.
macro_rules! dispatch {
    ($codec:expr, $kernels:ident => $call:expr) => {
        match $codec.0 {
            Implementation::Portable($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Implementation::Avx2($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Implementation::Avx512($kernels) => $call,
            #[cfg(target_arch = "x86_64")]
            Implementation::Vbmi($kernels) => $call,
        }
    };
}

impl Codec {
    /// The fastest implementation for this processor, looked up once.
    pub fn best() -> Self {
        static BEST: OnceLock<Codec> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().unwrap_or(Self::portable()))
    }

    /// The implementation without special instructions.
    pub const fn portable() -> Self {
        Self(Implementation::Portable(Portable))
    }

    /// The implementations that this processor can run, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let special = [
            Avx2::new().map(Implementation::Avx2),
            Avx512::new().map(Implementation::Avx512),
            Vbmi::new().map(Implementation::Vbmi),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let special: [Option<Implementation>; 0] = [];
        let special = special.into_iter().flatten().map(Self);
        std::iter::once(Self::portable()).chain(special)
    }

    /// The same implementation, which may write codes and bf16 values past the cache.
    ///
    /// Worth it where the whole result is larger than the cache and not read soon: the cache need not fetch what will be
    /// overwritten. The results are the same.
    #[must_use]
    pub const fn streaming(self) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Implementation::Vbmi(vbmi) = self.0 {
            return Self(Implementation::Vbmi(vbmi.streaming()));
        }
        self
    }

    /// What the implementation is called, for reports.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Implementation::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Implementation::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Implementation::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Implementation::Vbmi(_) => "avx512-vbmi",
        }
    }

    /// The largest magnitude: NaN if any element is NaN, else infinity if any is infinite; zero of no elements.
    pub fn amax_f32<'a>(self, src: impl Into<Rows<'a, f32>>) -> f32 {
        let src = src.into();
        let mut amax = [0.0];
        let blocks = src.width().min(1);
        self.amax_blocks_f32(src, src.width().max(1), &mut amax[..blocks]);
        amax[0]
    }

    /// [`Self::amax_f32`] of bf16 elements.
    pub fn amax_bf16<'a>(self, src: impl Into<Rows<'a, bf16>>) -> f32 {
        let src = src.into();
        let mut amax = [0.0];
        let blocks = src.width().min(1);
        self.amax_blocks_bf16(src, src.width().max(1), &mut amax[..blocks]);
        amax[0]
    }

    /// [`Self::amax_f32`] of each block of `width` columns, the last of which may be narrower.
    ///
    /// # Panics
    /// If `amax` does not have one element for each block.
    pub fn amax_blocks_f32<'a>(
        self,
        src: impl Into<Rows<'a, f32>>,
        width: usize,
        amax: &mut [f32],
    ) {
        let src = src.into();
        let width = assert_one_each(&src, width, amax);
        dispatch!(self, kernels => kernels.amax_f32(src, width, amax));
    }

    /// [`Self::amax_blocks_f32`] of bf16 elements.
    ///
    /// # Panics
    /// If `amax` does not have one element for each block.
    pub fn amax_blocks_bf16<'a>(
        self,
        src: impl Into<Rows<'a, bf16>>,
        width: usize,
        amax: &mut [f32],
    ) {
        let src = src.into();
        let width = assert_one_each(&src, width, amax);
        dispatch!(self, kernels => kernels.amax_bf16(src, width, amax));
    }

    /// The code of each number: [`Format::encode`] on a slice.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn encode_f32<'a>(
        self,
        format: Format,
        overflow: Overflow,
        src: impl Into<Rows<'a, f32>>,
        codes: impl Into<RowsMut<'a, u8>>,
    ) {
        let (src, codes) = same_shape(src, codes);
        dispatch!(self, kernels => kernels.encode_f32(format, overflow, src, codes));
    }

    /// [`Self::encode_f32`] of bf16 elements.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn encode_bf16<'a>(
        self,
        format: Format,
        overflow: Overflow,
        src: impl Into<Rows<'a, bf16>>,
        codes: impl Into<RowsMut<'a, u8>>,
    ) {
        let (src, codes) = same_shape(src, codes);
        dispatch!(self, kernels => kernels.encode_bf16(format, overflow, src, codes));
    }

    /// The code of each number divided by one scale: [`Scaled::encode`] on a slice.
    ///
    /// # Panics
    /// If the shapes differ, or the scale is not positive and finite.
    pub fn encode_scaled_f32<'a>(
        self,
        rule: &Scaled,
        src: impl Into<Rows<'a, f32>>,
        codes: impl Into<RowsMut<'a, u8>>,
    ) {
        let src = src.into();
        let scales = one_scale(&rule.scale, src.width());
        self.encode_blocks_f32(rule.format, rule.quotient, scales, src, codes);
    }

    /// [`Self::encode_scaled_f32`] of bf16 elements.
    ///
    /// # Panics
    /// If the shapes differ, or the scale is not positive and finite.
    pub fn encode_scaled_bf16<'a>(
        self,
        rule: &Scaled,
        src: impl Into<Rows<'a, bf16>>,
        codes: impl Into<RowsMut<'a, u8>>,
    ) {
        let src = src.into();
        let scales = one_scale(&rule.scale, src.width());
        self.encode_blocks_bf16(rule.format, rule.quotient, scales, src, codes);
    }

    /// The code of each number divided by the scale of its block: [`Scaled::encode`] on a row of blocks.
    ///
    /// # Panics
    /// If the shapes differ, there is not one scale for each block, or one is not positive and finite.
    pub fn encode_blocks_f32<'a>(
        self,
        format: Format,
        quotient: Quotient,
        scales: Scales<'_>,
        src: impl Into<Rows<'a, f32>>,
        codes: impl Into<RowsMut<'a, u8>>,
    ) {
        let (src, codes) = same_shape(src, codes);
        let rule = divide(format, quotient, scales, src.width());
        dispatch!(self, kernels => kernels.encode_scaled_f32(rule, src, codes));
    }

    /// [`Self::encode_blocks_f32`] of bf16 elements.
    ///
    /// # Panics
    /// If the shapes differ, there is not one scale for each block, or one is not positive and finite.
    pub fn encode_blocks_bf16<'a>(
        self,
        format: Format,
        quotient: Quotient,
        scales: Scales<'_>,
        src: impl Into<Rows<'a, bf16>>,
        codes: impl Into<RowsMut<'a, u8>>,
    ) {
        let (src, codes) = same_shape(src, codes);
        let rule = divide(format, quotient, scales, src.width());
        dispatch!(self, kernels => kernels.encode_scaled_bf16(rule, src, codes));
    }

    /// The value of each code, exactly: [`Format::decode`] on a slice.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn decode_f32<'a>(
        self,
        format: Format,
        codes: impl Into<Rows<'a, u8>>,
        out: impl Into<RowsMut<'a, f32>>,
    ) {
        self.decode_scaled_f32(format, 1.0, codes, out);
    }

    /// [`Self::decode_f32`] to bf16, just as exact.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn decode_bf16<'a>(
        self,
        format: Format,
        codes: impl Into<Rows<'a, u8>>,
        out: impl Into<RowsMut<'a, bf16>>,
    ) {
        self.decode_scaled_bf16(format, 1.0, codes, out);
    }

    /// The value of each code times the scale, one f32 multiplication.
    ///
    /// A NaN code gives the quiet NaN with its sign. Where the scale is NaN, or infinite and the value zero, the result
    /// is NaN with any sign and payload.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn decode_scaled_f32<'a>(
        self,
        format: Format,
        scale: f32,
        codes: impl Into<Rows<'a, u8>>,
        out: impl Into<RowsMut<'a, f32>>,
    ) {
        let codes = codes.into();
        let scales = one_scale(&scale, codes.width());
        self.decode_blocks_f32(format, scales, codes, out);
    }

    /// [`Self::decode_scaled_f32`], the product then rounded to bf16, nearest even.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn decode_scaled_bf16<'a>(
        self,
        format: Format,
        scale: f32,
        codes: impl Into<Rows<'a, u8>>,
        out: impl Into<RowsMut<'a, bf16>>,
    ) {
        let codes = codes.into();
        let scales = one_scale(&scale, codes.width());
        self.decode_blocks_bf16(format, scales, codes, out);
    }

    /// The value of each code times the scale of its block: [`Self::decode_scaled_f32`] on a row of blocks.
    ///
    /// # Panics
    /// If the shapes differ, or there is not one scale for each block.
    pub fn decode_blocks_f32<'a>(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: impl Into<Rows<'a, u8>>,
        out: impl Into<RowsMut<'a, f32>>,
    ) {
        let (codes, out) = same_shape(codes, out);
        let scales = scales.covering(codes.width());
        dispatch!(self, kernels => kernels.decode_scaled_f32(format, scales, codes, out));
    }

    /// [`Self::decode_blocks_f32`], the products then rounded to bf16, nearest even.
    ///
    /// # Panics
    /// If the shapes differ, or there is not one scale for each block.
    pub fn decode_blocks_bf16<'a>(
        self,
        format: Format,
        scales: Scales<'_>,
        codes: impl Into<Rows<'a, u8>>,
        out: impl Into<RowsMut<'a, bf16>>,
    ) {
        let (codes, out) = same_shape(codes, out);
        let scales = scales.covering(codes.width());
        dispatch!(self, kernels => kernels.decode_scaled_bf16(format, scales, codes, out));
    }
}

/// One block as wide as the rows; none if they have no columns.
fn one_scale(scale: &f32, width: usize) -> Scales<'_> {
    Scales {
        values: &std::slice::from_ref(scale)[..width.min(1)],
        width: width.max(1),
    }
}

fn divide(format: Format, quotient: Quotient, scales: Scales<'_>, cols: usize) -> Divide<'_> {
    let scales = scales.covering(cols);
    for scale in scales.values {
        assert!(
            *scale > 0.0 && scale.is_finite(),
            "scale {scale} is not positive and finite"
        );
    }
    Divide {
        format,
        scales,
        quotient,
    }
}

/// The width of blocks, at most all columns.
fn assert_one_each<T>(src: &Rows<'_, T>, width: usize, amax: &[f32]) -> usize {
    let cols = src.width();
    assert!(width > 0, "blocks without columns");
    assert_eq!(
        amax.len(),
        cols.div_ceil(width),
        "largest magnitudes of {cols} columns in blocks of {width}"
    );
    width.min(cols.max(1))
}

fn same_shape<'a, T: 'a, U: 'a>(
    src: impl Into<Rows<'a, T>>,
    dst: impl Into<RowsMut<'a, U>>,
) -> (Rows<'a, T>, RowsMut<'a, U>) {
    let (src, dst) = (src.into(), dst.into());
    assert_eq!(
        (src.count(), src.width()),
        (dst.count(), dst.width()),
        "source and destination differ in shape (rows, columns)"
    );
    (src, dst)
}
