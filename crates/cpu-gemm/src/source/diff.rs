//! Differences of two matrices, taken while they are packed and never stored.

use std::ops::Range;

use half::bf16;

use super::{Lines, Source, assert_len, assert_rectangle};
use crate::arch::{self, Isa};

/// `tuned - base` of two bf16 matrices: the weight delta of a fine-tune.
///
/// Each element is widened to f32 and subtracted there. The subtraction of two bf16 numbers within a factor of two of each
/// other is exact (Sterbenz), which is nearly all of a fine-tune.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Diff<'a> {
    tuned: &'a [bf16],
    base: &'a [bf16],
    rows: usize,
    cols: usize,
}

impl<'a> Bf16Diff<'a> {
    /// Borrows two row-major `[rows, cols]` matrices.
    ///
    /// # Panics
    /// If either does not hold `rows * cols` elements.
    #[must_use]
    pub fn new(tuned: &'a [bf16], base: &'a [bf16], rows: usize, cols: usize) -> Self {
        assert_len(tuned.len(), rows, cols);
        assert_len(base.len(), rows, cols);
        Self {
            tuned,
            base,
            rows,
            cols,
        }
    }
}

impl Source for Bf16Diff<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        assert_rectangle((self.rows, self.cols), &rows, &cols, dst.len(), ld);
        let isa = Isa::detect();
        for (i, row) in rows.enumerate() {
            let span = row * self.cols + cols.start..row * self.cols + cols.end;
            let to = &mut dst[i * ld..][..cols.len()];
            arch::bf16_diff(isa, &self.tuned[span.clone()], &self.base[span], to);
        }
    }

    #[inline]
    fn ahead(&self, rows: Range<usize>, cols: Range<usize>, lines: &mut Lines) {
        for row in rows {
            let span = row * self.cols + cols.start..row * self.cols + cols.end;
            lines.push(&self.tuned[span.clone()]);
            lines.push(&self.base[span]);
        }
    }
}

/// `a - b` of any two sources of one shape, in f32.
#[derive(Clone, Copy, Debug)]
pub struct Diff<A, B> {
    a: A,
    b: B,
}

impl<A: Source, B: Source> Diff<A, B> {
    /// Takes both operands.
    ///
    /// # Panics
    /// If their shapes differ.
    #[must_use]
    pub fn new(a: A, b: B) -> Self {
        let (left, right) = ((a.rows(), a.cols()), (b.rows(), b.cols()));
        assert_eq!(left, right, "a difference needs two matrices of one shape");
        Self { a, b }
    }
}

/// Columns of `b` decoded at a time, on the stack.
const STRIP: usize = 512;

impl<A: Source, B: Source> Source for Diff<A, B> {
    fn rows(&self) -> usize {
        self.a.rows()
    }

    fn cols(&self) -> usize {
        self.a.cols()
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        self.a.pack(rows.clone(), cols.clone(), dst, ld);
        let mut strip = [0.0; STRIP];
        for (i, row) in rows.enumerate() {
            for start in cols.clone().step_by(STRIP) {
                let end = cols.end.min(start + STRIP);
                self.b.pack(row..row + 1, start..end, &mut strip, STRIP);
                let to = &mut dst[i * ld + start - cols.start..][..end - start];
                for (to, b) in to.iter_mut().zip(&strip) {
                    *to -= b;
                }
            }
        }
    }

    fn ahead(&self, rows: Range<usize>, cols: Range<usize>, lines: &mut Lines) {
        self.a.ahead(rows.clone(), cols.clone(), lines);
        self.b.ahead(rows, cols, lines);
    }
}
