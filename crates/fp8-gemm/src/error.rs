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
}

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;
