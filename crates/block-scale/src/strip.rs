//! The geometry of a strip of rows, and rectangles of it.

use std::ops::Range;

use xgraft_fp8_codec as codec;

use crate::BlockShape;

/// A block of up to so many bytes stays in the cache between the search for its largest magnitude and its encoding.
const CACHED_BLOCK: usize = 1 << 20;

/// Rows, columns and blocks of a strip.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Rows of a block.
    pub(crate) height: usize,
    /// Columns of a block.
    pub(crate) width: usize,
    /// Rows and columns of the grid of scales.
    pub(crate) grid: (usize, usize),
}

impl Strip {
    /// The strip of `len` elements in rows of `cols`.
    pub(crate) fn new(len: usize, cols: usize, block: &BlockShape) -> Self {
        let rows = match cols {
            0 => 0,
            _ => len / cols,
        };
        assert_eq!(rows * cols, len, "{len} elements are not rows of {cols}");
        Self {
            rows,
            cols,
            height: block.rows.size(rows),
            width: block.cols.size(cols),
            grid: block.grid(rows, cols),
        }
    }

    /// Number of scales.
    pub(crate) fn scales(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Elements of a row of blocks.
    pub(crate) fn band(&self) -> usize {
        self.height * self.cols
    }

    /// Whether a block of elements of this size survives in the cache between two passes over it.
    pub(crate) fn has_small_blocks(&self, element: usize) -> bool {
        self.height == 1 || self.height * self.width * element <= CACHED_BLOCK
    }

    /// The columns of each block.
    pub(crate) fn columns(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (cols, width) = (self.cols, self.width);
        (0..cols)
            .step_by(width)
            .map(move |start| start..cols.min(start + width))
    }
}

/// The columns `columns` of all rows of a row-major slice.
pub(crate) fn columns_of<T>(data: &[T], cols: usize, columns: Range<usize>) -> codec::Rows<'_, T> {
    let end = data.len() - (cols - columns.end);
    codec::Rows::new(&data[columns.start..end], columns.len(), cols)
}

/// [`columns_of`] to write to.
pub(crate) fn columns_of_mut<T>(
    data: &mut [T],
    cols: usize,
    columns: Range<usize>,
) -> codec::RowsMut<'_, T> {
    let end = data.len() - (cols - columns.end);
    codec::RowsMut::new(&mut data[columns.start..end], columns.len(), cols)
}
