//! The tensor core of Hopper on the CPU, bit for bit as far as its published model goes.
//!
//! **Source** MMA-Sim (arXiv 2511.10909): a tensor core aligns all products of a step and the accumulator to the largest
//! exponent, keeps so many fractional bits of each by truncation, adds exactly, and truncates the sum. For E4M3 of Hopper's
//! wgmma a step is 32 products with 13 fractional bits, and the sum keeps 13 bits of mantissa; for BF16 it is 16 products with 25
//! bits, truncated to an f32. `mma.sync` of the same GPU differs, and is not modelled.
//!
//! What this says of a kernel has not been held against a GPU yet.

mod dot;
mod product;

pub use dot::{E4M3_STEP, dot_bf16, dot_e4m3};
pub use product::{Adapter, Operands, chain, element, product};
