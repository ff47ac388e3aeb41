//! A matrix of f32.

use std::ops::Range;

use xgraft_cpu_gemm::{Source, assert_rectangle};

/// A row-major `[rows, cols]` matrix of f32; a weight is `[out_features, in_features]`.
///
/// It has no arithmetic: that is the business of the crates that need some.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements, row by row.
    pub data: Vec<f32>,
}

impl Matrix {
    /// A matrix of these elements.
    ///
    /// # Panics
    /// If there are not `rows × cols` of them.
    pub fn new(rows: usize, cols: usize, data: Vec<f32>) -> Self {
        assert_eq!(
            rows.checked_mul(cols),
            Some(data.len()),
            "{} elements are not a {rows} x {cols} matrix",
            data.len()
        );
        Self { rows, cols, data }
    }

    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self::new(rows, cols, vec![0.0; rows * cols])
    }

    /// One row.
    ///
    /// # Panics
    /// If the matrix has no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        assert!(row < self.rows, "row {row} of a matrix of {}", self.rows);
        &self.data[row * self.cols..][..self.cols]
    }

    /// The `[cols, rows]` matrix of the same elements.
    pub fn transposed(&self) -> Self {
        let mut out = Self::zeros(self.cols, self.rows);
        for (r, row) in self.data.chunks_exact(self.cols.max(1)).enumerate() {
            for (c, x) in row.iter().enumerate() {
                out.data[c * self.rows + r] = *x;
            }
        }
        out
    }
}

impl Source for Matrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        assert_rectangle((self.rows, self.cols), &rows, &cols, dst.len(), ld);
        if cols.is_empty() {
            return;
        }
        for (row, dst) in rows.zip(dst.chunks_mut(ld)) {
            dst[..cols.len()].copy_from_slice(&self.row(row)[cols.clone()]);
        }
    }
}
