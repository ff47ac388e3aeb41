//! Integers of 2 to 8 bits to and from f32 and bf16 in groups with a scale each; 4-bit codes eight to a word, in the orders in
//! which the formats of the field store them; and the 4-bit NormalFloat, two codes to a byte.
//!
//! A code is an unsigned integer. The signed integers of compressed-tensors are **offset binary**: value + 8 for four bits.
//! Reading the nibbles as two's complement instead puts every weight off by eight steps, which looks like a working file and
//! is 27 times the noise.
//!
//! Key decision: the loops of the definition are compiled once more for AVX2 and for AVX-512 ([`Codec`] chooses at run time),
//! rather than written again in intrinsics: every implementation does the same operations on each element, so it gives the
//! same bits. Only values that are written past the cache take an intrinsic.
//! One kind of word and two [`Order`]s cover all formats. Which dimension of a matrix the eight neighbours run along is the
//! matrix's business, not the word's.
//!
//! Invariant: no allocation, no I/O, no notion of a matrix; how a scale is chosen is not known here.
//!
//! ```
//! use xgraft_int_codec::{Order, pack, unpack};
//!
//! let codes = [8, 9, 7, 15, 0, 1, 2, 3];
//! let mut word = [0; 4];
//! pack(&codes, Order::Natural, &mut word);
//! assert_eq!(u32::from_le_bytes(word), 0x3210_f798);
//!
//! let mut back = [0; 8];
//! unpack(&word, Order::Natural, &mut back);
//! assert_eq!(back, codes);
//! ```

mod arch;
mod codec;
mod nf4;
mod pair;
mod word;

pub use codec::{Codec, Element, Groups, Quotient, Range};
pub use nf4::Nf4;
pub use pair::{pack_pairs, unpack_pairs};
pub use word::{Order, PER_WORD, pack, unpack};
