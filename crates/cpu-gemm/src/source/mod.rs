//! Where the elements of the large operand come from.

mod dense;
mod diff;
mod lines;

use std::ops::Range;

pub use dense::{Bf16, F16, F32};
pub use diff::{Bf16Diff, Diff};
pub use lines::Lines;

/// A row-major `[rows, cols]` f32 matrix that can write any rectangle of itself.
///
/// The products never ask for more than a cache-sized rectangle at a time, so an implementation may decode, subtract or
/// dequantize on the way and the whole f32 matrix need not exist.
/// A rectangle may be asked for several times and from several threads at once; each time the same values must come.
pub trait Source: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Number of columns.
    fn cols(&self) -> usize;

    /// Writes the rectangle `rows` × `cols` into `dst`.
    ///
    /// **Shapes** element `(i, j)` of the rectangle goes to `dst[i * ld + j]`, with `ld >= cols.len()`.
    /// Elements of `dst` between the rows of the rectangle are left as they are.
    ///
    /// **Panics** if the rectangle leaves the matrix or `dst` is too short for it.
    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize);

    /// Names the memory that packing this rectangle will read, so that it can be fetched ahead of time.
    ///
    /// Worth implementing where the data may lie in main memory; by default nothing is fetched.
    #[inline]
    fn ahead(&self, _rows: Range<usize>, _cols: Range<usize>, _lines: &mut Lines) {}
}

impl<S: Source + ?Sized> Source for &S {
    fn rows(&self) -> usize {
        (**self).rows()
    }

    fn cols(&self) -> usize {
        (**self).cols()
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        (**self).pack(rows, cols, dst, ld);
    }

    #[inline]
    fn ahead(&self, rows: Range<usize>, cols: Range<usize>, lines: &mut Lines) {
        (**self).ahead(rows, cols, lines);
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn rows(&self) -> usize {
        (**self).rows()
    }

    fn cols(&self) -> usize {
        (**self).cols()
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        (**self).pack(rows, cols, dst, ld);
    }

    #[inline]
    fn ahead(&self, rows: Range<usize>, cols: Range<usize>, lines: &mut Lines) {
        (**self).ahead(rows, cols, lines);
    }
}

/// Panics unless the rectangle lies in a `shape.0` × `shape.1` matrix and fits in `len` elements at leading dimension `ld`.
///
/// Implementations of [`Source::pack`] outside this crate may use it for their own check.
///
/// # Panics
/// That is what it is for.
#[inline]
pub fn assert_rectangle(
    shape: (usize, usize),
    rows: &Range<usize>,
    cols: &Range<usize>,
    len: usize,
    ld: usize,
) {
    assert!(
        rows.start <= rows.end
            && rows.end <= shape.0
            && cols.start <= cols.end
            && cols.end <= shape.1,
        "rectangle {rows:?} x {cols:?} leaves a {} x {} matrix",
        shape.0,
        shape.1
    );
    let width = cols.len();
    let needed = if rows.is_empty() || width == 0 {
        0
    } else {
        (rows.len() - 1) * ld + width
    };
    assert!(
        ld >= width,
        "leading dimension {ld} is below the {width} columns of the rectangle"
    );
    assert!(
        len >= needed,
        "destination of {len} elements is too short: {needed} needed"
    );
}

/// Panics unless `data` holds `rows * cols` elements.
fn assert_len(len: usize, rows: usize, cols: usize) {
    assert_eq!(
        Some(len),
        rows.checked_mul(cols),
        "{len} elements are not a {rows} x {cols} matrix"
    );
}
