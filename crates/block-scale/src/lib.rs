//! Block-scaled matrices: which scale governs which element, quantize and dequantize.
//!
//! A quantized matrix is an array of 8-bit codes and a smaller grid of scales; value = code × scale.
//! [`BlockShape`] says which elements share a scale: 128×128 blocks, groups of 128 along a row, whole rows, the whole
//! matrix, or any other rectangle, with ragged blocks at the right and lower edge that have scales of their own.
//! [`Recipe`] says how a scale is found and stored, and how the quotient is rounded.
//!
//! The key decision: **the stored scale governs**. A scale is rounded to the type that it is stored in first, and the
//! rounded scale divides. So the codes are the best ones for the scale that a reader will multiply with, and the file alone
//! reproduces every value. Dividing by the unrounded scale would be marginally faster and is what some tools do.
//!
//! Integers and 4-bit levels ([`Levels`]) have their scales in groups along a row, perhaps with zero points: [`GroupedMatrix`],
//! made by a [`GroupRecipe`]. Codes of both kinds are a byte each in memory; how a file packs them is the file's business.
//!
//! Matrices come in strips of whole block rows, so memory never follows the size of a matrix; a scale that spans strips
//! (one per tensor) takes two passes, [`amax_rows`] and then [`quantize_rows_with_scales`].
//! Work is spread over block rows in rayon's current pool; the bytes do not depend on the number of threads.
//!
//! Invariants: no file, no tensor name, no linear algebra; and no unsafe code, which is the codecs'.
//!
//! ```
//! use xgraft_block_scale::{BlockShape, Matrix, Recipe, ScaleDtype, dequantize, quantize, round_trip};
//!
//! let weights: Vec<f32> = (0..200 * 300).map(|i| (i as f32 * 0.37).sin() * 0.02).collect();
//! let matrix = Matrix::new(200, 300, weights);
//!
//! let quantized = quantize(&matrix, &Recipe::f32(BlockShape::B128, ScaleDtype::Bf16))?;
//! assert_eq!(quantized.block.grid(200, 300), (2, 3));
//! assert_eq!(quantized.scales.len(), 6);
//!
//! let error = round_trip((&matrix).into(), &quantized);
//! assert!(error.relative_error() < 0.03);
//! assert_eq!(dequantize(&quantized).data.len(), 200 * 300);
//! # Ok::<(), xgraft_block_scale::Error>(())
//! ```
#![forbid(unsafe_code)]

mod block_shape;
mod element;
mod error;
mod group_recipe;
mod grouped;
mod levels;
mod matrix;
mod quantize;
mod quantized;
mod recipe;
mod round_trip;
mod rows;
mod scale_dtype;
mod strip;

pub use block_shape::{BlockShape, Extent};
pub use error::{Error, Result};
pub use group_recipe::{GroupRecipe, GroupScale};
pub use grouped::GroupedMatrix;
pub use levels::Levels;
pub use matrix::Matrix;
pub use quantize::{Stats, amax_rows, quantize, quantize_rows, quantize_rows_with_scales};
pub use quantized::{QuantizedMatrix, QuantizedRows, dequantize, dequantize_rows};
pub use recipe::{Arithmetic, Recipe};
pub use round_trip::{RoundTrip, round_trip, round_trip_rows};
pub use rows::{Rows, RowsMut, WeightDtype};
pub use scale_dtype::ScaleDtype;
pub use xgraft_fp8_codec::Format;
