//! E4M3FN, E5M2 and UE8M0 numbers to and from f32 and bf16: a scalar definition and SIMD slices.
//!
//! The scalar functions on [`E4m3`], [`E5m2`] and [`Ue8m0`] are the definition: integer arithmetic on the bits of an f32,
//! rounding to nearest even, held against `ml_dtypes` for each of the 2^32 f32 bit patterns.
//! [`Codec`] does the same to slices, with one implementation per instruction set behind a run-time choice;
//! every implementation gives the same bytes, so results never depend on the machine.
//!
//! Scaled operations divide by the scale (`encode(x / scale)`) and never multiply by a reciprocal, because the quotient
//! must be the one that the reference implementations round.
//! Alternatives considered: the `float8` crate (no slices, other NaN rules), and conversion through f16 hardware
//! instructions (rounds twice).
//!
//! Invariant: no allocation, no I/O, no notion of a matrix; which scale governs which element is not known here.
//!
//! ```
//! use xgraft_fp8_codec::{Codec, E4m3, Format, Overflow, Quotient, Scaled};
//!
//! // One number. 464 lies half way between the largest value, 448, and the 480 that E4M3FN does not have.
//! assert_eq!(E4m3::encode(464.0, Overflow::NonFinite).decode(), 448.0);
//! assert!(E4m3::encode(465.0, Overflow::NonFinite).is_nan());
//! assert_eq!(E4m3::encode(465.0, Overflow::Saturate).decode(), 448.0);
//!
//! // A slice with one scale, by the fastest implementation of this machine.
//! let codec = Codec::best();
//! let weights = [0.5f32, -0.25, 0.1, 0.0];
//! let scale = codec.amax_f32(&weights) / E4m3::MAX;
//! let rule = Scaled { format: Format::E4m3, scale, quotient: Quotient::F32 };
//!
//! let mut codes = [0u8; 4];
//! codec.encode_scaled_f32(&rule, &weights, &mut codes);
//! let mut back = [0f32; 4];
//! codec.decode_scaled_f32(Format::E4m3, scale, &codes, &mut back);
//! assert_eq!(back[0], 0.5);
//! assert!((back[2] - 0.1).abs() < 0.1 / 16.0);
//! ```

mod arch;
mod codec;
mod e4m3;
mod e5m2;
mod format;
mod minifloat;
mod rows;
mod ue8m0;

pub use codec::Codec;
pub use e4m3::E4m3;
pub use e5m2::E5m2;
pub use format::{Format, Overflow, Quotient, Scaled, Scales};
pub use rows::{Rows, RowsMut};
pub use ue8m0::Ue8m0;
