//! x86-64. Each type is a proof that the processor has its instructions, so its methods are safe to call.
//!
//! All of them round a magnitude to the 8-bit format by one f32 addition. To x = f·2^e with e clamped from below to the
//! exponent of the smallest normal value, add c = 2^(e + 23 − mantissa bits): the hardware's rounding to nearest even of
//! x + c drops exactly the bits that the target format lacks, and `bits(x + c) − bits(c)` is the mantissa of the code with
//! its implicit one.

pub(crate) mod avx2;
pub(crate) mod avx512;
mod lines;
pub(crate) mod vbmi;

use crate::{Overflow, Rows, Scales, minifloat::Layout};

/// An encoding kernel takes its elements as they are.
const PLAIN: u8 = 0;
/// An encoding kernel divides first.
const DIVIDE: u8 = 1;
/// An encoding kernel divides first and rounds the quotient to bf16.
const DIVIDE_THEN_BF16: u8 = 2;

/// Blocks of a row that are worked on together, so that memory is passed over in order.
const GROUP: usize = 16;

/// How far ahead of itself a pass over a row of blocks asks for memory.
const ROWS_AHEAD: usize = 2;

/// The distance, in elements, at which a pass over these rows shall prefetch.
/// The hardware does it by itself within a row, but not from one row to the next.
fn prefetch_distance<T>(src: &Rows<'_, T>) -> Option<usize> {
    (src.count() > ROWS_AHEAD).then(|| ROWS_AHEAD * src.stride())
}

/// What happens to an element before it is rounded to the format.
#[derive(Clone, Copy)]
struct Rule {
    /// The element is divided by this, if the kernel divides.
    divisor: f32,
    /// Magnitudes are clamped to this.
    limit: f32,
}

/// One block as wide as the rows, for kernels that do not divide.
fn undivided<T>(src: &Rows<'_, T>) -> Scales<'static> {
    Scales {
        values: &[1.0],
        width: src.width().max(1),
    }
}

/// The magnitude to clamp to before rounding, which then makes the code that an overflow shall have.
const fn beyond_max<L: Layout>(overflow: Overflow) -> f32 {
    match overflow {
        Overflow::Saturate => L::MAX,
        Overflow::NonFinite => L::BEYOND,
    }
}

/// Evaluates `$body` with the type `$L` of the format's layout.
macro_rules! for_format {
    ($format:expr, $L:ident => $body:expr) => {
        match $format {
            crate::Format::E4m3 => {
                type $L = crate::E4m3;
                $body
            }
            crate::Format::E5m2 => {
                type $L = crate::E5m2;
                $body
            }
        }
    };
}
use for_format;
