//! Matrices that lie in memory as f32, bf16 or f16.

use std::ops::Range;

use half::{bf16, f16};

use super::{Lines, Source, assert_len, assert_rectangle};
use crate::arch::{self, Isa};

macro_rules! dense {
    ($(#[$doc:meta])* $name:ident, $element:ty, $decode:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<'a> {
            data: &'a [$element],
            rows: usize,
            cols: usize,
        }

        impl<'a> $name<'a> {
            /// Borrows row-major `[rows, cols]` data.
            ///
            /// # Panics
            /// If `data` does not hold `rows * cols` elements.
            #[must_use]
            pub fn new(data: &'a [$element], rows: usize, cols: usize) -> Self {
                assert_len(data.len(), rows, cols);
                Self { data, rows, cols }
            }

            /// The borrowed elements, row-major.
            #[must_use]
            pub fn data(&self) -> &'a [$element] {
                self.data
            }
        }

        impl Source for $name<'_> {
            fn rows(&self) -> usize {
                self.rows
            }

            fn cols(&self) -> usize {
                self.cols
            }

            fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
                assert_rectangle((self.rows, self.cols), &rows, &cols, dst.len(), ld);
                let decode: fn(&[$element], &mut [f32]) = $decode;
                for (i, row) in rows.enumerate() {
                    let from = row * self.cols;
                    decode(&self.data[from + cols.start..from + cols.end], &mut dst[i * ld..][..cols.len()]);
                }
            }

            #[inline]
            fn ahead(&self, rows: Range<usize>, cols: Range<usize>, lines: &mut Lines) {
                for row in rows {
                    lines.push(&self.data[row * self.cols..][cols.clone()]);
                }
            }
        }
    };
}

dense!(
    /// An f32 matrix in memory.
    F32,
    f32,
    |from, to| to.copy_from_slice(from)
);

dense!(
    /// A bf16 matrix in memory.
    Bf16,
    bf16,
    |from, to| arch::bf16_widen(Isa::detect(), from, to)
);

dense!(
    /// An f16 matrix in memory.
    F16,
    f16,
    |from, to| half::slice::HalfFloatSliceExt::convert_to_f32_slice(from, to)
);
