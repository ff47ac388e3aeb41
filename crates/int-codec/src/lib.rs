//! 4-bit integers eight to a word, in the orders in which the formats of the field store them, and the 4-bit NormalFloat,
//! two to a byte.
//!
//! A code is an unsigned integer from 0 to 15; what it means is said by a scale and a zero point that are not known here.
//! The signed integers of compressed-tensors are stored as **offset binary**: value + 8. Reading the nibbles as two's
//! complement instead puts every weight off by eight steps, which looks like a working file and is 27 times the noise.
//!
//! Key decision: one kind of word and two [`Order`]s cover all formats. Which dimension of a matrix the eight neighbours
//! run along is the matrix's business, not the word's.
//!
//! ```
//! use xgraft_int_codec::{Order, pack, unpack};
//!
//! let codes = [8, 9, 7, 15, 0, 1, 2, 3];
//! let mut word = [0];
//! pack(&codes, Order::Natural, &mut word);
//! assert_eq!(word, [0x3210_f798]);
//!
//! let mut back = [0; 8];
//! unpack(&word, Order::Natural, &mut back);
//! assert_eq!(back, codes);
//! ```
#![forbid(unsafe_code)]

mod nf4;
mod pair;
mod word;

pub use nf4::Nf4;
pub use pair::{pack_pairs, unpack_pairs};
pub use word::{Order, PER_WORD, pack, unpack};
