//! ΔW = W_tuned − W_base as a matrix that is never materialised.

use std::ops::Range;

use xgraft_checkpoint::WeightMatrix;
use xgraft_cpu_gemm::{Bf16Diff, Diff, Lines, Source};

/// The difference of two weights of the same shape [out, in], packed rectangle by rectangle.
///
/// Two BF16 weights go through one fused subtraction; any other pair of stored formats (an F32
/// fine-tune, an FP8 base) is decoded rectangle by rectangle and subtracted in f32.
#[derive(Debug, Clone, Copy)]
pub struct Delta<'a> {
    tuned: &'a WeightMatrix,
    base: &'a WeightMatrix,
    rows: usize,
}

impl<'a> Delta<'a> {
    /// The delta of two weights with the same columns. Rows beyond the shorter of the two
    /// (vocabulary that only one has) are left out.
    ///
    /// # Panics
    /// When the numbers of columns differ.
    #[must_use]
    pub fn new(tuned: &'a WeightMatrix, base: &'a WeightMatrix) -> Self {
        assert_eq!(tuned.cols(), base.cols(), "columns of tuned and base");
        Self {
            tuned,
            base,
            rows: tuned.rows().min(base.rows()),
        }
    }
}

impl Source for Delta<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.base.cols()
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        let (m, n) = (self.rows, self.cols());
        match (self.tuned.as_bf16(), self.base.as_bf16()) {
            (Some(tuned), Some(base)) => {
                Bf16Diff::new(&tuned[..m * n], &base[..m * n], m, n).pack(rows, cols, dst, ld);
            }
            _ => Diff::new(Rows(self.tuned, m), Rows(self.base, m)).pack(rows, cols, dst, ld),
        }
    }

    fn ahead(&self, rows: Range<usize>, cols: Range<usize>, lines: &mut Lines) {
        self.tuned.ahead(rows.clone(), cols.clone(), lines);
        self.base.ahead(rows, cols, lines);
    }
}

/// The first rows of a weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a>(pub(crate) &'a WeightMatrix, pub(crate) usize);

impl Source for Rows<'_> {
    fn rows(&self) -> usize {
        self.1
    }

    fn cols(&self) -> usize {
        self.0.cols()
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        self.0.pack(rows, cols, dst, ld);
    }
}
