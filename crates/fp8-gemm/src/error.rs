//! What can be wrong with a product.

use crate::Shape;

/// Why there is no kernel for a product, or its operands are none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A side of zero.
    #[error("a product of {} x {} x {} (m, n, k) has an empty side", .shape.m, .shape.n, .shape.k)]
    Empty {
        /// The product.
        shape: Shape,
    },
    /// A side that no coordinate can name.
    #[error("a product of {} x {} x {} (m, n, k) has a side above 2^30", .shape.m, .shape.n, .shape.k)]
    TooLarge {
        /// The product.
        shape: Shape,
    },
    /// A GPU that no kernel here runs on.
    #[error("no FP8 kernel runs on compute capability {major}.{minor}; expected 8.0 or later")]
    Gpu {
        /// 7 of 7.5.
        major: u32,
        /// 5 of 7.5.
        minor: u32,
    },
    /// A rank that no kernel takes.
    #[error("an adapter of rank {rank} fits no kernel; expected a multiple of 8 up to 256")]
    Rank {
        /// The rank.
        rank: u32,
    },
    /// Rows that a kernel cannot read.
    #[error(
        "rows of k = {k} are read in pieces of 16 codes by this kernel; expected a multiple of 16"
    )]
    Rows {
        /// Columns of X and W.
        k: u32,
    },
    /// A line of a measured table that is no row.
    #[error(
        "line {line} of the measured table is `{found}`; expected multiprocessors, n, k, least m, most m, kernel, blocks or band"
    )]
    Table {
        /// Counted from 1.
        line: usize,
        /// The line without its comment.
        found: String,
    },
    /// A weight that the kernels cannot multiply.
    #[error("a weight has {what} {found}; expected {expected}")]
    Weight {
        /// Which property.
        what: &'static str,
        /// What it is.
        found: String,
        /// What the kernels take.
        expected: &'static str,
    },
    /// Operands whose sizes contradict each other.
    #[error("{what} has {found} elements; expected {expected}")]
    Length {
        /// Which operand.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What the shape asks for.
        expected: usize,
    },
    /// The GPU or its driver.
    #[error("the GPU failed")]
    Cuda(#[from] xgraft_cuda_jit::Error),
}

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;
