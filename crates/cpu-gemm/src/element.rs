//! The number types of the kernels, and the sizes that follow from them.

use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;

use crate::Source;
use crate::arch::Kernels;
pub(crate) use crate::reference::KC;

/// Terms that a block of the left operand may have in [`Layout::Rows`](crate::left::Layout::Rows).
pub(crate) const TERMS_AT_ONCE: usize = 4 * KC;

/// Rows of the result that a block may have in [`Layout::Rows`](crate::left::Layout::Rows): a multiple of every tile height.
pub(crate) const ROWS_BY: usize = 168;

/// The same in [`Layout::Cols`](crate::left::Layout::Cols): a multiple of every tile width.
pub(crate) const COLS_BY: usize = 672;

/// A number type of the kernels.
pub(crate) trait Element:
    Kernels
    + Copy
    + Default
    + Send
    + Sync
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Neg<Output = Self>
    + 'static
{
    /// Distance of two rows in a [`Layout::Rows`](crate::left::Layout::Rows) block:
    /// an odd number of cache lines, so that a column of the block spreads over the sets of the cache.
    const ROWS_LD: usize;
    /// Distance of two terms in a [`Layout::Cols`](crate::left::Layout::Cols) block.
    const COLS_LD: usize;

    /// Converts exactly.
    fn from_f32(x: f32) -> Self;

    /// `self * b + c` with one rounding.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// This thread's scratch memory.
    fn scratch() -> &'static LocalKey<Cell<Vec<Self>>>;

    /// [`Source::pack`] into this type.
    fn pack<S: Source + ?Sized>(
        source: &S,
        rows: Range<usize>,
        cols: Range<usize>,
        dst: &mut [Self],
        ld: usize,
    );
}

macro_rules! element {
    ($element:ty, $rows_ld:expr, $cols_ld:expr, $pack:expr) => {
        impl Element for $element {
            const ROWS_LD: usize = $rows_ld;
            const COLS_LD: usize = $cols_ld;

            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                x.into()
            }

            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                <$element>::mul_add(self, b, c)
            }

            fn scratch() -> &'static LocalKey<Cell<Vec<Self>>> {
                thread_local!(static SCRATCH: Cell<Vec<$element>> = const { Cell::new(Vec::new()) });
                &SCRATCH
            }

            fn pack<S: Source + ?Sized>(
                source: &S,
                rows: Range<usize>,
                cols: Range<usize>,
                dst: &mut [Self],
                ld: usize,
            ) {
                $pack(source, rows, cols, dst, ld);
            }
        }
    };
}

element!(f32, TERMS_AT_ONCE + 16, COLS_BY, S::pack);
element!(f64, TERMS_AT_ONCE + 8, COLS_BY + 8, pack_wide);

/// Packs through f32, some rows at a time.
fn pack_wide<S: Source + ?Sized>(
    source: &S,
    rows: Range<usize>,
    cols: Range<usize>,
    dst: &mut [f64],
    ld: usize,
) {
    const LEN: usize = 1024;
    let mut narrow = [0.0_f32; LEN];
    let width = cols.len().clamp(1, LEN);
    for first in rows.clone().step_by(LEN / width) {
        let some = first..rows.end.min(first + LEN / width);
        for start in cols.clone().step_by(width) {
            let part = start..cols.end.min(start + width);
            source.pack(some.clone(), part.clone(), &mut narrow, width);
            for (row, narrow) in some.clone().zip(narrow.chunks_exact(width)) {
                let to = &mut dst[(row - rows.start) * ld + start - cols.start..][..part.len()];
                for (to, from) in to.iter_mut().zip(narrow) {
                    *to = (*from).into();
                }
            }
        }
    }
}
