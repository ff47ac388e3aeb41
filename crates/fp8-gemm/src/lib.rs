//! FP8 block-scaled products for Hopper: Y = X Wᵀ with X in E4M3 under scales of 1 × 128 and W in E4M3 under scales of 128 × 128.
//!
//! The tensor core of Hopper keeps 13 bits of an FP8 sum. So every 128 of k its accumulator is *promoted*: multiplied by the two
//! scales and added to f32 registers. [`emulator`] says what comes out, bit for bit as far as the published model of the
//! hardware goes, and [`layout`] and [`schedule`] are the arithmetic of the kernels in Rust, where it can be tested.
//!
//! ```
//! use xgraft_fp8_gemm::{Shape, emulator::{Operands, product}, schedule::Parts};
//!
//! // One token and one row of weights: 256 ones each, under scales of 2 and of 0.5.
//! let shape = Shape::new(1, 1, 256)?;
//! let ones = [0x38; 256];
//! let x_scales = [2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]; // [k_blocks, m rounded up to 4]
//! let operands = Operands { shape, x: &ones, x_scales: &x_scales, w: &ones, w_scales: &[0.5, 0.5] };
//! assert_eq!(product(&operands, None, Parts::Whole), [256.0]);
//! # Ok::<(), xgraft_fp8_gemm::Error>(())
//! ```
//!
//! Architecture invariant: no file, no tensor name, no model.

pub mod call;
pub mod cuda;
pub mod emulator;
mod error;
pub mod kernel;
pub mod layout;
pub mod plan;
pub mod products;
pub mod ring;
pub mod schedule;
mod shape;
pub mod trial;

pub use error::{Error, Result};
pub use shape::{BLOCK, Shape};
