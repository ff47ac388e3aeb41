//! Truncated SVD of a matrix that is only seen through products, with what is known of its error.
//!
//! [`truncated_svd`] finds the leading singular triplets of a [`Source`](xgraft_cpu_gemm::Source) by a randomized block Krylov
//! iteration: some twenty products with thin panels, none of which holds the matrix itself.
//!
//! ```
//! use std::ops::ControlFlow;
//! use xgraft_cpu_gemm::F32;
//! use xgraft_low_rank::{Config, Stop, truncated_svd};
//!
//! // An 80 x 60 matrix of rank 2.
//! let d: Vec<f32> = (0..80 * 60)
//!     .map(|at| (at / 60) as f32 * (at % 60) as f32 + if at % 2 == 0 { 300.0 } else { -300.0 })
//!     .collect();
//! let d = F32::new(&d, 80, 60);
//!
//! let config = Config { stop: Stop::Rank(8), ..Config::default() };
//! let found = truncated_svd(&d, &config, &|_| ControlFlow::Continue(()))?;
//! assert_eq!(found.rank(), 2); // there is no more to find
//! assert!(found.residual2(2) < 1e-12 * found.norm2);
//! println!("within {:.2} % of the optimum", 100.0 * found.optimum(2).value());
//! # Ok::<(), xgraft_low_rank::Error>(())
//! ```
//!
//! # Decisions
//!
//! **Block Krylov, not subspace iteration.** Both read the matrix as often, but Krylov keeps what it has seen. At rank 256 of a
//! 5120 × 5120 weight delta it leaves 0.02 % above the optimum for the work at which subspace iteration leaves 1.4 %.
//! A full SVD costs fifty times as much; Lanczos with single vectors reads the matrix for every one of them.
//!
//! **The basis is on the shorter side**, where orthogonalizing is cheap, and its image on the longer one is kept: it is half of
//! the next product and all of the small problem.
//!
//! **What is said about the error is of three kinds**, and is never mixed.
//! [`Factors::residual2`] is exact up to rounding. [`Factors::bound`] holds, but is often of no use: a bound on what the basis has not seen
//! needs a gap, or a basis that has seen nearly everything. [`Factors::estimate`] is what the residuals of the Ritz vectors say by
//! perturbation theory, and is what the iteration stops on. Bounds from random probes of the spectral norm were tried and are
//! vacuous: they are of the size of the Frobenius norm.
//!
//! **The same bytes for any number of threads.** Products are summed in one order (see `xgraft_cpu_gemm`), random numbers come from
//! a counter, and the small factorizations run on one thread, beside a product where there is one to compute.
//!
//! Architecture invariant: nothing here knows what a weight, a layer or a file is.

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
pub use random::{almost_normal, mix};
pub use svd::{exact_singular_values, truncated_svd};
