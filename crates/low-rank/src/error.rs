//! What can go wrong.

/// Why there is no factorization.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An element is NaN or infinite.
    #[error("the matrix has the value {value} at row {row}, column {col}")]
    NotFinite {
        /// Row of the first such element, from 0.
        row: usize,
        /// Its column.
        col: usize,
        /// What it is.
        value: f32,
    },

    /// A product of finite elements left the range of f32.
    #[error("products of the matrix leave the range of f32: its Frobenius norm is {norm:e}")]
    Overflow {
        /// Frobenius norm of the matrix.
        norm: f64,
    },

    /// A field of the configuration makes no sense.
    #[error("{field} is {value}, but must be {expected}")]
    Config {
        /// Name of the field.
        field: &'static str,
        /// What it holds.
        value: f64,
        /// What it may hold.
        expected: &'static str,
    },

    /// The eigenvalue iteration did not converge.
    #[error("the eigenvalues of a symmetric matrix of order {order} did not converge")]
    NoConvergence {
        /// Rows of that matrix.
        order: usize,
    },

    /// The progress callback asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
