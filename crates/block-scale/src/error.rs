//! What can be wrong with a matrix.

use crate::{ScaleDtype, WeightDtype};

/// Why a matrix could not be quantized, or is not a quantized matrix.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// NaN or infinity among the weights.
    #[error("element at row {row}, column {col} is {value}; expected a finite number")]
    NonFinite {
        /// Row of the element, counted from the first row given.
        row: usize,
        /// Column of the element.
        col: usize,
        /// The element.
        value: f32,
    },
    /// A scale that its type cannot hold.
    #[error(
        "the scale of block ({block_row}, {block_col}), for a largest magnitude of {amax}, does not fit in {dtype}"
    )]
    ScaleOverflow {
        /// Row of the block in the grid of blocks.
        block_row: usize,
        /// Column of the block in the grid of blocks.
        block_col: usize,
        /// The largest magnitude in the block.
        amax: f32,
        /// The type that scales are stored in.
        dtype: ScaleDtype,
    },
    /// compressed-tensors stores scales in the type of the weights, so the recipe must say so.
    #[error(
        "compressed-tensors arithmetic stores the scales of {expected} weights in {expected}, but the recipe says {found}"
    )]
    ScaleDtype {
        /// The type of the weights.
        expected: WeightDtype,
        /// The recipe's type for scales.
        found: ScaleDtype,
    },
    /// The number of codes or scales does not follow from the shape.
    #[error("a {rows} x {cols} matrix needs {expected} {what}, found {found}")]
    Count {
        /// `codes` or `scales`.
        what: &'static str,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// The number that the shape asks for.
        expected: usize,
        /// The number that is there.
        found: usize,
    },
    /// A code that is NaN or infinite.
    #[error("code at row {row}, column {col} is {code:#04x}, which is not a finite number")]
    Code {
        /// Row of the code.
        row: usize,
        /// Column of the code.
        col: usize,
        /// The code.
        code: u8,
    },
    /// A scale that is NaN or infinite.
    #[error("scale of block ({block_row}, {block_col}) is {value}; expected a finite number")]
    Scale {
        /// Row of the block in the grid of blocks.
        block_row: usize,
        /// Column of the block in the grid of blocks.
        block_col: usize,
        /// The scale.
        value: f32,
    },
    /// A group size that does not divide a row.
    #[error("groups of {group} do not divide rows of {cols} elements")]
    GroupSize {
        /// Elements of a row.
        cols: usize,
        /// Elements of a group.
        group: usize,
    },
    /// A column that says it belongs to a group which is not there.
    #[error("column {column} belongs to group {group} of {groups}")]
    Group {
        /// The column.
        column: usize,
        /// Its group.
        group: usize,
        /// Number of groups.
        groups: usize,
    },
}

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error with the rows of its message counted from `rows` further up, for the caller who passed a strip.
    #[must_use]
    pub fn below_rows(mut self, rows: usize) -> Self {
        match &mut self {
            Self::NonFinite { row, .. } | Self::Code { row, .. } => *row += rows,
            Self::ScaleOverflow { .. }
            | Self::ScaleDtype { .. }
            | Self::Count { .. }
            | Self::Scale { .. }
            | Self::GroupSize { .. }
            | Self::Group { .. } => {}
        }
        self
    }

    /// As [`Self::below_rows`] for groups of a row, whose grid has a row for each of the matrix.
    #[must_use]
    pub fn below_rows_of_groups(mut self, rows: usize) -> Self {
        if let Self::ScaleOverflow { block_row, .. } = &mut self {
            *block_row += rows;
        }
        self.below_rows(rows)
    }
}
