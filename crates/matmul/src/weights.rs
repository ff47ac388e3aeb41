//! A weight's stored bytes and what they mean.

/// A view of a weight `[out, in]` as it is stored, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    rows: usize,
    cols: usize,
    row_bytes: usize,
    codes: &'a [u8],
    coding: Coding<'a>,
}

/// What the bytes of a row are. Numbers are little-endian and need no alignment.
#[derive(Clone, Copy, Debug)]
pub enum Coding<'a> {
    /// IEEE single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
    /// E4M3FN codes; an element is `code × scale`. A NaN code counts as ±480: check for it before.
    E4m3(Scales<'a>),
    /// E5M2 codes; an element is `code × scale`.
    E5m2(Scales<'a>),
    /// Two's-complement bytes; an element is `code × scale`.
    Int8(Scales<'a>),
    /// Two codes of four bits in a byte, the lower half first; an element is `(levels[code] - zero) × scale`.
    ///
    /// A row takes `ceil(in / 8)` words of four bytes, as compressed-tensors packs them.
    FourBit {
        /// The sixteen values of a code.
        levels: &'a [f32; 16],
        /// The scales.
        scales: Scales<'a>,
        /// The zero points, one for each scale; none if all are `middle`.
        zeros: Option<&'a [u8]>,
        /// The zero point where none are stored.
        middle: f32,
    },
}

/// Scales of the blocks of a weight.
///
/// **Shapes** `values` `[ceil(out / block_rows), ceil(in / block_cols)]`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Scales<'a> {
    /// The scales.
    pub values: &'a [f32],
    /// Rows of a block; not 0.
    pub block_rows: usize,
    /// Columns of a block: a multiple of 16, or all.
    pub block_cols: usize,
}

impl Coding<'_> {
    /// Bytes of a row of `cols` elements.
    pub fn row_bytes(&self, cols: usize) -> usize {
        match self {
            Coding::F32 => cols * 4,
            Coding::Bf16 | Coding::F16 => cols * 2,
            Coding::E4m3(_) | Coding::E5m2(_) | Coding::Int8(_) => cols,
            Coding::FourBit { .. } => cols.div_ceil(8) * 4,
        }
    }

    pub(crate) fn scales(&self) -> Option<&Scales<'_>> {
        match self {
            Coding::F32 | Coding::Bf16 | Coding::F16 => None,
            Coding::E4m3(scales) | Coding::E5m2(scales) | Coding::Int8(scales) => Some(scales),
            Coding::FourBit { scales, .. } => Some(scales),
        }
    }
}

impl<'a> Weights<'a> {
    /// A view of `codes`.
    ///
    /// # Panics
    /// If the number of bytes, scales or zero points is not what the shape gives, or a block's width is neither a multiple
    /// of 16 nor the whole row.
    pub fn new(rows: usize, cols: usize, codes: &'a [u8], coding: Coding<'a>) -> Self {
        let row_bytes = coding.row_bytes(cols);
        assert_eq!(codes.len(), rows * row_bytes, "bytes of {rows} x {cols}");
        if let Some(scales) = coding.scales() {
            assert!(
                scales.block_rows > 0 && scales.block_cols > 0,
                "an empty block"
            );
            assert!(
                scales.block_cols.is_multiple_of(16) || scales.block_cols >= cols,
                "blocks of {} columns",
                scales.block_cols
            );
            let blocks = rows.div_ceil(scales.block_rows) * cols.div_ceil(scales.block_cols);
            assert_eq!(scales.values.len(), blocks, "scales of {rows} x {cols}");
            if let Coding::FourBit {
                zeros: Some(zeros), ..
            } = coding
            {
                assert_eq!(zeros.len(), blocks, "zero points of {rows} x {cols}");
            }
        }
        Self {
            rows,
            cols,
            row_bytes,
            codes,
            coding,
        }
    }

    /// Rows: output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: input features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What the bytes mean.
    pub fn coding(&self) -> &Coding<'a> {
        &self.coding
    }

    /// The bytes of a row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        &self.codes[row * self.row_bytes..][..self.row_bytes]
    }

    /// Decodes a row.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as one.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        crate::wide::decode_row(self, row, out);
    }
}
