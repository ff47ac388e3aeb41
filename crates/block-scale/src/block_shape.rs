//! Which elements share a scale.

use std::{num::NonZeroUsize, ops::Range};

/// The size of a block along one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// So many elements; the last block is ragged where the dimension is not a multiple.
    Of(NonZeroUsize),
    /// The whole dimension, whatever its length.
    All,
}

impl Extent {
    /// The length of every block but a ragged last one, in a dimension of this length; at least 1.
    pub const fn size(self, len: usize) -> usize {
        match self {
            Self::Of(size) => size.get(),
            Self::All if len == 0 => 1,
            Self::All => len,
        }
    }

    /// Number of blocks along a dimension of this length.
    pub const fn blocks(self, len: usize) -> usize {
        len.div_ceil(self.size(len))
    }
}

/// The rectangle of elements that share a scale.
///
/// **Shapes** a `[rows, cols]` matrix has a row-major grid of `[ceil(rows / block rows), ceil(cols / block cols)]` scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockShape {
    /// Rows of a block.
    pub rows: Extent,
    /// Columns of a block.
    pub cols: Extent,
}

/// A block, or the part of one that lies in a rectangle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Position in the grid of scales.
    pub(crate) at: (usize, usize),
    /// Rows of the matrix.
    pub(crate) rows: Range<usize>,
    /// Columns of the matrix.
    pub(crate) cols: Range<usize>,
}

const N128: NonZeroUsize = NonZeroUsize::new(128).expect("not zero");

impl BlockShape {
    /// 128×128 elements, as the official FP8 checkpoints have it.
    pub const B128: Self = Self {
        rows: Extent::Of(N128),
        cols: Extent::Of(N128),
    };
    /// One scale a row: "per channel" of a weight.
    pub const ROW: Self = Self {
        rows: Extent::Of(NonZeroUsize::MIN),
        cols: Extent::All,
    };
    /// One scale for the whole matrix.
    pub const TENSOR: Self = Self {
        rows: Extent::All,
        cols: Extent::All,
    };

    /// Blocks of so many rows and columns; nothing if one of them is zero.
    pub const fn new(rows: usize, cols: usize) -> Option<Self> {
        match (NonZeroUsize::new(rows), NonZeroUsize::new(cols)) {
            (Some(rows), Some(cols)) => Some(Self {
                rows: Extent::Of(rows),
                cols: Extent::Of(cols),
            }),
            _ => None,
        }
    }

    /// Rows and columns of the grid of scales of a matrix.
    pub const fn grid(&self, rows: usize, cols: usize) -> (usize, usize) {
        (self.rows.blocks(rows), self.cols.blocks(cols))
    }

    /// Number of scales of a matrix.
    pub const fn count(&self, rows: usize, cols: usize) -> usize {
        let (rows, cols) = self.grid(rows, cols);
        rows * cols
    }

    /// The position in the grid of the scale that governs an element of a `[rows, cols]` matrix.
    pub const fn block_of(
        &self,
        (rows, cols): (usize, usize),
        row: usize,
        col: usize,
    ) -> (usize, usize) {
        (row / self.rows.size(rows), col / self.cols.size(cols))
    }

    /// The parts of blocks that make up a rectangle of a `[rows, cols]` matrix, row by row of the grid.
    pub(crate) fn blocks_in(
        self,
        shape: (usize, usize),
        rows: Range<usize>,
        cols: Range<usize>,
    ) -> impl Iterator<Item = Block> + use<> {
        let (height, width) = (self.rows.size(shape.0), self.cols.size(shape.1));
        pieces(rows, height).flat_map(move |(i, rows)| {
            pieces(cols.clone(), width).map(move |(j, cols)| Block {
                at: (i, j),
                rows: rows.clone(),
                cols,
            })
        })
    }
}

/// Cuts a range at the multiples of `size`; each piece with the index of its multiple.
pub(crate) fn pieces(
    range: Range<usize>,
    size: usize,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let indices = match range.is_empty() {
        true => 0..0,
        false => range.start / size..(range.end - 1) / size + 1,
    };
    indices.map(move |i| {
        let (start, end) = (i * size, (i + 1).saturating_mul(size));
        (i, start.max(range.start)..end.min(range.end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ragged_edge_has_blocks_of_its_own() {
        assert_eq!(BlockShape::B128.grid(200, 300), (2, 3));
        assert_eq!(BlockShape::B128.grid(256, 256), (2, 2));
        assert_eq!(BlockShape::ROW.grid(200, 300), (200, 1));
        assert_eq!(BlockShape::TENSOR.grid(200, 300), (1, 1));
        assert_eq!(BlockShape::TENSOR.grid(0, 300), (0, 1));
        assert_eq!(BlockShape::new(0, 128), None);
    }

    #[test]
    fn blocks_in_a_rectangle_are_clipped_to_it() {
        let blocks: Vec<_> = BlockShape::B128
            .blocks_in((200, 300), 100..130, 250..300)
            .map(|block| (block.at, block.rows, block.cols))
            .collect();
        assert_eq!(
            blocks,
            [
                ((0, 1), 100..128, 250..256),
                ((0, 2), 100..128, 256..300),
                ((1, 1), 128..130, 250..256),
                ((1, 2), 128..130, 256..300),
            ]
        );
    }

    #[test]
    fn an_element_is_governed_by_the_block_that_holds_it() {
        assert_eq!(BlockShape::B128.block_of((200, 300), 199, 256), (1, 2));
        assert_eq!(BlockShape::ROW.block_of((200, 300), 199, 256), (199, 0));
        assert_eq!(BlockShape::TENSOR.block_of((200, 300), 199, 256), (0, 0));
    }
}
