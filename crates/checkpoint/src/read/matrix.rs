//! A weight in memory, in the form in which it is stored.

use std::ops::Range;

use half::{bf16, f16};
use xgraft_block_scale::{GroupedMatrix, Matrix, QuantizedMatrix};
use xgraft_cpu_gemm::{Bf16, F16, Lines, Source};

/// A whole weight as a row-major matrix, in its stored form.
///
/// **Shapes** `[rows, cols]`; `[out_features, in_features]` for a linear layer; a vector is one row.
#[derive(Debug, Clone)]
pub enum WeightMatrix {
    /// BF16, untouched.
    Bf16 {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        cols: usize,
        /// Row-major, `rows * cols`.
        data: Vec<bf16>,
    },
    /// F16, untouched.
    F16 {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        cols: usize,
        /// Row-major, `rows * cols`.
        data: Vec<f16>,
    },
    /// F32, or F64 rounded to it.
    F32(Matrix),
    /// FP8 codes and their scales.
    Fp8(QuantizedMatrix),
    /// Integer codes, a byte each, with scales and perhaps zero points.
    Grouped(GroupedMatrix),
}

impl WeightMatrix {
    /// The elements, if they are stored as BF16.
    pub fn as_bf16(&self) -> Option<&[bf16]> {
        match self {
            WeightMatrix::Bf16 { data, .. } => Some(data),
            _ => None,
        }
    }

    /// All elements decoded, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let (rows, cols) = (self.rows(), self.cols());
        let mut out = vec![0.0; rows * cols];
        self.pack(0..rows, 0..cols, &mut out, cols);
        out
    }
}

impl Source for WeightMatrix {
    fn rows(&self) -> usize {
        match self {
            WeightMatrix::Bf16 { rows, .. } | WeightMatrix::F16 { rows, .. } => *rows,
            WeightMatrix::F32(matrix) => matrix.rows,
            WeightMatrix::Fp8(matrix) => matrix.rows,
            WeightMatrix::Grouped(matrix) => matrix.rows,
        }
    }

    fn cols(&self) -> usize {
        match self {
            WeightMatrix::Bf16 { cols, .. } | WeightMatrix::F16 { cols, .. } => *cols,
            WeightMatrix::F32(matrix) => matrix.cols,
            WeightMatrix::Fp8(matrix) => matrix.cols,
            WeightMatrix::Grouped(matrix) => matrix.cols,
        }
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        match self {
            WeightMatrix::Bf16 {
                rows: m,
                cols: n,
                data,
            } => Bf16::new(data, *m, *n).pack(rows, cols, dst, ld),
            WeightMatrix::F16 {
                rows: m,
                cols: n,
                data,
            } => F16::new(data, *m, *n).pack(rows, cols, dst, ld),
            WeightMatrix::F32(matrix) => matrix.pack(rows, cols, dst, ld),
            WeightMatrix::Fp8(matrix) => matrix.pack(rows, cols, dst, ld),
            WeightMatrix::Grouped(matrix) => matrix.pack(rows, cols, dst, ld),
        }
    }

    fn ahead(&self, rows: Range<usize>, cols: Range<usize>, lines: &mut Lines) {
        match self {
            WeightMatrix::Bf16 {
                rows: m,
                cols: n,
                data,
            } => Bf16::new(data, *m, *n).ahead(rows, cols, lines),
            WeightMatrix::F16 {
                rows: m,
                cols: n,
                data,
            } => F16::new(data, *m, *n).ahead(rows, cols, lines),
            WeightMatrix::F32(matrix) => matrix.ahead(rows, cols, lines),
            WeightMatrix::Fp8(matrix) => matrix.ahead(rows, cols, lines),
            WeightMatrix::Grouped(matrix) => matrix.ahead(rows, cols, lines),
        }
    }
}
