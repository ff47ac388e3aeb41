//! The geometry of a strip of rows, and rectangles of it.

use std::ops::Range;

use xgraft_fp8_codec as codec;

use crate::BlockShape;

/// So many bytes stay in the cache of a core between the search for the largest magnitudes and the encoding.
const CACHED: usize = 1 << 18;

/// Rows, columns and blocks of a strip.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub(crate) cols: usize,
    /// Rows of a block, at most all there are.
    pub(crate) height: usize,
    /// Columns of a block, at most all there are.
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
            cols,
            height: block.rows.size(rows).min(rows.max(1)),
            width: block.cols.size(cols).min(cols.max(1)),
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

    /// Blocks side by side, of elements of this size, that survive in the cache between two passes over them.
    /// Nothing if not one does.
    pub(crate) fn cached_blocks(&self, element: usize) -> Option<usize> {
        let row = self.width * element;
        match CACHED / (self.height * row) {
            0 if self.height == 1 => Some(1),
            0 => None,
            blocks => Some(blocks),
        }
    }

    /// The blocks of a row of blocks in groups of up to `count`: which blocks, and which columns they have.
    pub(crate) fn groups(
        &self,
        count: usize,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let (blocks, cols, width) = (self.grid.1, self.cols, self.width);
        (0..blocks).step_by(count).map(move |first| {
            let last = blocks.min(first + count);
            (first..last, first * width..cols.min(last * width))
        })
    }
}

/// Panics if a caller's slice has another length than its shape says.
pub(crate) fn assert_count(what: &str, found: usize, expected: usize) {
    assert!(found == expected, "{found} {what}, expected {expected}");
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
