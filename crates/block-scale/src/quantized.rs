//! Codes and scales, and back to numbers.

use std::ops::Range;

use rayon::prelude::*;
use xgraft_cpu_gemm::{Source, assert_rectangle};
use xgraft_fp8_codec::{self as codec, Codec, Format, Scales};

use crate::{
    BlockShape, Error, Matrix, Recipe, Result, Rows, RowsMut,
    block_shape::{Block, pieces},
    element::codec_for,
    quantize::quantize_rows,
    strip::assert_count,
};

/// Rows that a task decodes.
const TALL: usize = 128;

/// A matrix of 8-bit codes and a grid of scales; value = code × scale.
///
/// **Shapes** `codes` row-major `[rows, cols]`; `scales` row-major `block.grid(rows, cols)`.
///
/// A file's `weight_scale_inv` is exactly such a scale, in spite of its name, and so is `weight_scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// The format of the codes.
    pub format: Format,
    /// Which elements share a scale.
    pub block: BlockShape,
    /// Codes, row by row.
    pub codes: Vec<u8>,
    /// Scales, row by row of the grid.
    pub scales: Vec<f32>,
}

/// Some rows of a quantized matrix, with the scales of all of it.
///
/// **Shapes** `codes` row-major `[n, cols]`, the rows from `first_row` on; `scales` row-major `block.grid(rows, cols)`.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    /// Rows and columns of the whole matrix.
    pub shape: (usize, usize),
    /// The row of the matrix that `codes` begins with; any, not only a block's first.
    pub first_row: usize,
    /// The format of the codes.
    pub format: Format,
    /// Which elements share a scale.
    pub block: BlockShape,
    /// Codes of these rows.
    pub codes: &'a [u8],
    /// Scales of the whole matrix.
    pub scales: &'a [f32],
}

impl QuantizedMatrix {
    /// A matrix of these codes and scales.
    ///
    /// # Errors
    /// A number of codes or scales that does not follow from the shape.
    pub fn new(
        (rows, cols): (usize, usize),
        format: Format,
        block: BlockShape,
        codes: Vec<u8>,
        scales: Vec<f32>,
    ) -> Result<Self> {
        let check = |what, expected: Option<usize>, found| match expected {
            Some(expected) if expected == found => Ok(()),
            _ => Err(Error::Count {
                what,
                rows,
                cols,
                expected: expected.unwrap_or(usize::MAX),
                found,
            }),
        };
        check("codes", rows.checked_mul(cols), codes.len())?;
        check("scales", Some(block.count(rows, cols)), scales.len())?;
        Ok(Self {
            rows,
            cols,
            format,
            block,
            codes,
            scales,
        })
    }

    /// Quantizes a matrix of any type.
    ///
    /// # Errors
    /// As [`quantize_rows`].
    ///
    /// # Panics
    /// If there are not `rows × cols` elements.
    pub fn quantize<'a>(
        src: impl Into<Rows<'a>>,
        (rows, cols): (usize, usize),
        recipe: &Recipe,
    ) -> Result<Self> {
        let src = src.into();
        assert_count("elements of the matrix", src.len(), rows * cols);
        let mut codes = vec![0; src.len()];
        let mut scales = vec![0.0; recipe.block.count(rows, cols)];
        if !src.is_empty() {
            quantize_rows(src, cols, recipe, &mut codes, &mut scales)?;
        }
        Ok(Self {
            rows,
            cols,
            format: recipe.format,
            block: recipe.block,
            codes,
            scales,
        })
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If the matrix does not have these rows.
    pub fn rows_in(&self, rows: Range<usize>) -> QuantizedRows<'_> {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        QuantizedRows {
            shape: (self.rows, self.cols),
            first_row: rows.start,
            format: self.format,
            block: self.block,
            codes: &self.codes[rows.start * self.cols..rows.end * self.cols],
            scales: &self.scales,
        }
    }

    /// All rows.
    pub fn as_rows(&self) -> QuantizedRows<'_> {
        self.rows_in(0..self.rows)
    }

    /// Whether every code and every scale is a finite number.
    ///
    /// # Errors
    /// The first scale, else the first code, that is not.
    pub fn check_finite(&self) -> Result<()> {
        let grid_cols = self.block.cols.blocks(self.cols);
        if let Some(i) = self.scales.iter().position(|scale| !scale.is_finite()) {
            return Err(Error::Scale {
                block_row: i / grid_cols,
                block_col: i % grid_cols,
                value: self.scales[i],
            });
        }
        let finite = self.format.values().map(f32::is_finite);
        let bad = self
            .codes
            .par_iter()
            .with_min_len(1 << 16)
            .position_first(|&code| !finite[usize::from(code)]);
        match bad {
            None => Ok(()),
            Some(i) => Err(Error::Code {
                row: i / self.cols,
                col: i % self.cols,
                code: self.codes[i],
            }),
        }
    }
}

impl<'a> QuantizedRows<'a> {
    /// Number of rows here.
    pub fn rows(&self) -> usize {
        match self.shape.1 {
            0 => 0,
            cols => self.codes.len() / cols,
        }
    }

    /// The scale of a block.
    pub(crate) fn scale(&self, (i, j): (usize, usize)) -> f32 {
        self.scales[i * self.block.cols.blocks(self.shape.1) + j]
    }

    /// The parts of blocks in a rectangle, rows counted in the whole matrix.
    pub(crate) fn blocks(
        &self,
        rows: Range<usize>,
        cols: Range<usize>,
    ) -> impl Iterator<Item = Block> + use<> {
        self.block.blocks_in(self.shape, rows, cols)
    }

    /// The codes of a part of a block.
    pub(crate) fn codes(&self, block: &Block) -> codec::Rows<'a, u8> {
        let cols = self.shape.1;
        let first = (block.rows.start - self.first_row) * cols + block.cols.start;
        let len = (block.rows.len() - 1) * cols + block.cols.len();
        codec::Rows::new(&self.codes[first..first + len], block.cols.len(), cols)
    }

    fn assert_valid(&self) {
        let (rows, cols) = self.shape;
        assert_count("codes of whole rows", self.codes.len(), self.rows() * cols);
        assert!(
            self.first_row + self.rows() <= rows,
            "rows from {} on of {rows}",
            self.first_row
        );
        let scales = self.block.count(rows, cols);
        assert_count("scales of the matrix", self.scales.len(), scales);
    }
}

/// The numbers that rows of codes stand for: one f32 multiplication each, and for bf16 one rounding to nearest even.
///
/// **Shapes** `out` `[n, cols]` for the `n` rows of `src`.
///
/// # Panics
/// If `src` contradicts itself or `out` has another length.
pub fn dequantize_rows<'a>(src: QuantizedRows<'_>, out: impl Into<RowsMut<'a>>) {
    src.assert_valid();
    let out = out.into();
    let codec = codec_for(out.len() * 2);
    match out {
        RowsMut::F32(out) => decode_strips(&src, out, |scales, codes, out| {
            codec.decode_blocks_f32(src.format, scales, codes, out);
        }),
        RowsMut::Bf16(out) => decode_strips(&src, out, |scales, codes, out| {
            codec.decode_blocks_bf16(src.format, scales, codes, out);
        }),
    }
}

/// The matrix of numbers that a quantized matrix stands for.
pub fn dequantize(matrix: &QuantizedMatrix) -> Matrix {
    let mut out = Matrix::zeros(matrix.rows, matrix.cols);
    dequantize_rows(matrix.as_rows(), out.data.as_mut_slice());
    out
}

fn decode_strips<T: Send>(
    src: &QuantizedRows<'_>,
    out: &mut [T],
    decode: impl Fn(Scales<'_>, codec::Rows<'_, u8>, codec::RowsMut<'_, T>) + Sync,
) {
    assert_count("elements of the rows", out.len(), src.codes.len());
    let (rows, cols) = src.shape;
    if out.is_empty() {
        return;
    }
    let scales_of = |block_row: usize| {
        let count = src.block.cols.blocks(cols);
        Scales {
            values: &src.scales[block_row * count..][..count],
            width: src.block.cols.size(cols),
        }
    };
    // Strips begin at multiples of TALL in the matrix, so that they do not cut blocks of that height.
    let head_rows = (TALL - src.first_row % TALL).min(src.rows());
    let (head, rest) = out.split_at_mut(head_rows * cols);
    let strips = rest.par_chunks_mut(TALL * cols).enumerate();
    let strips = strips.map(|(i, out)| (src.first_row + head_rows + i * TALL, out));
    rayon::iter::once((src.first_row, head))
        .chain(strips)
        .for_each(|(first, mut out)| {
            let strip = first..first + out.len() / cols;
            for (block_row, rows) in pieces(strip, src.block.rows.size(rows)) {
                let (piece, rest) = out.split_at_mut(rows.len() * cols);
                let start = (rows.start - src.first_row) * cols;
                let codes = &src.codes[start..start + piece.len()];
                let codes = codec::Rows::new(codes, cols, cols);
                decode(
                    scales_of(block_row),
                    codes,
                    codec::RowsMut::new(piece, cols, cols),
                );
                out = rest;
            }
        });
}

/// Decodes while packing: the matrix of numbers never exists.
impl Source for QuantizedMatrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        assert_rectangle((self.rows, self.cols), &rows, &cols, dst.len(), ld);
        let src = self.as_rows();
        for block in src.blocks(rows.clone(), cols.clone()) {
            let start = (block.rows.start - rows.start) * ld + block.cols.start - cols.start;
            let len = (block.rows.len() - 1) * ld + block.cols.len();
            let out = codec::RowsMut::new(&mut dst[start..start + len], block.cols.len(), ld);
            let scale = src.scale(block.at);
            Codec::best().decode_scaled_f32(self.format, scale, src.codes(&block), out);
        }
    }
}
