//! Truncated SVD of a linear operator by randomized block Krylov, with what is known of its error
mod assemble;
mod basis;
mod check;
mod cholesky;
mod config;
mod dense;
mod error;
mod excess;
mod factors;
mod krylov;
mod operator;
mod panel;
mod plan;
mod progress;
mod random;
mod ritz;
mod svd;

pub use check::residual2;
pub use config::{Config, Stop};
pub use error::{Error, Result};
pub use excess::Excess;
pub use factors::Factors;
pub use progress::Progress;
pub use svd::{exact_singular_values, truncated_svd};
