//! `y = x Wᵀ` on the CPU for weights as they are stored.
//!
//! [`Weights`] is a view of a weight's bytes: F32, BF16, F16, FP8, INT8 or four-bit codes with their scales.
//! The codes are decoded in registers while they are multiplied, so a decoding step costs the reading of the stored bytes
//! and nothing is ever expanded in memory. Activations stay f32.
//!
//! ```
//! use xgraft_matmul::{Coding, Product, Rows, RowsMut, Scales, Weights, run};
//!
//! // Two rows of E4M3 codes, 1.0 and 2.0, under one scale of 0.5.
//! let codes = [0x38, 0x38, 0x40, 0x40];
//! let scales = Scales { values: &[0.5], block_rows: 2, block_cols: 2 };
//! let weights = Weights::new(2, 2, &codes, Coding::E4m3(scales));
//!
//! let mut y = [0.0; 2];
//! let x = Rows::new(&[3.0, 5.0], 2);
//! run(vec![Product { weights, x, y: RowsMut::new(&mut y, 2), add: false }]);
//! assert_eq!(y, [4.0, 8.0]);
//! ```
//!
//! # Decisions
//!
//! **One order of summation** for every format, number of rows, instruction set and number of threads, written out in
//! [`mod@reference`]: lane `k mod 16` sums its terms in order of `k` with fused multiply-adds, then the lanes are folded.
//! So a token's logits do not depend on what else is in its batch or on how its prompt was cut, and a quantized weight gives
//! exactly what its decoded f32 values would give.
//!
//! **Lanes run along k**, which is contiguous in weights `[out, in]` and in activations, for one row of activations as for
//! hundreds. The alternative for many rows, lanes along the rows of the result, is as fast but sums in another order.
//!
//! **Two loops.** Up to 8 rows of activations a few rows of weights are decoded in registers and meet all of
//! them; above that a panel is decoded to f32 once, in the second-level cache, and multiplied from there. Both ask for the
//! weights that come next, because the processor's own prefetcher does not follow from row to row, and read activations
//! that were packed in the order of the loop.
//!
//! Architecture invariant: no file, no tensor name, no model.

mod format;
mod lanes;
mod packed;
mod paged;
mod product;
pub mod reference;
mod tile;
mod weights;
mod wide;

pub use paged::Paged;
pub use product::{Product, Rows, RowsMut, run};
pub use weights::{Coding, Scales, Weights};

#[cfg(test)]
mod tests;
