//! Blocked matrix product on the CPU whose large operand comes through a packing trait.
//!
//! The large matrix is a [`Source`]: it writes any rectangle of itself as f32 when asked.
//! So a product with "bf16 minus bf16" or with decoded FP8 codes never holds the whole f32 matrix,
//! and one kernel serves every stored format.
//!
//! ```
//! use half::bf16;
//! use xgraft_cpu_gemm::{Bf16Diff, matmul};
//!
//! let tuned = [1.5, 2.0, 3.0, 4.0].map(bf16::from_f32);
//! let base = [1.0, 2.0, 3.0, 5.0].map(bf16::from_f32);
//! let delta = Bf16Diff::new(&tuned, &base, 2, 2); // [[0.5, 0], [0, -1]]
//!
//! let panel = [1.0, 2.0, 3.0, 4.0]; // [2, 2], row-major
//! let mut product = [0.0; 4];
//! matmul(&delta, &panel, 2, &mut product);
//! assert_eq!(product, [0.5, 1.0, -3.0, -4.0]);
//! ```
//!
//! # Decisions
//!
//! **One order of summation.** [`mod@reference`] says in which order an element is summed, and every implementation gives these very
//! bits: whatever the instruction set, the number of threads, and the number of rows and columns.
//! The alternative, splitting long sums among threads, would scale for results of a few rows, and is not needed here.
//!
//! **No operand is transposed.** The elements of one operand are broadcast and the lanes of a vector run along the other one, which is
//! contiguous either way: for `D P` along the panel, for `Dᵀ Q` along `D`, where only the thin result is turned at the end.
//!
//! **Packing by blocks** of 340 KiB that stay in a second-level cache, while the kernels ask for the lines of the next block.
//! Thin panels do little work per element of the large matrix, so that main memory would otherwise cost a third of the time.
//!
//! **Own kernels** for AVX-512 and AVX2 with FMA. faer's product, the best in stable Rust, needs the matrix in f32 and does not gain
//! from a second thread on thin panels.
//!
//! Architecture invariant: nothing here knows what a weight, a scale or a file is, and nothing allocates per element.

mod arch;
mod element;
mod left;
mod norm;
mod own;
mod panel;
mod product;
pub mod reference;
mod schedule;
mod scratch;
mod source;
mod transpose;

pub use norm::{inner_products, squared_norm};
pub use own::{Side, cross_f64, gram, gram_f64};
pub use product::{matmul, matmul_sub, matmul_tn};
pub use source::{Bf16, Bf16Diff, Diff, F16, F32, Lines, Source, assert_rectangle};

#[cfg(test)]
mod tests;
