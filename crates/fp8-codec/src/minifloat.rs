//! The scalar definition of both signed formats, written once over their layout.

use crate::Overflow;

/// The layout of an 8-bit float: sign, exponent, mantissa, with subnormals.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "some constants are for the vector kernels")
)]
pub(crate) trait Layout {
    /// Mantissa bits, without the implicit one.
    const MANTISSA_BITS: u32;
    /// Exponent bias.
    const BIAS: u32;
    /// Code of the largest finite value.
    const MAX_CODE: u8;
    /// The largest finite value.
    const MAX: f32;
    /// The value one step above the largest; its code is what an overflow becomes when not saturating.
    const BEYOND: f32;
    /// Code of the positive NaN that an f32 NaN becomes.
    const NAN: u8;
    /// The last magnitude code that is not NaN.
    const LAST_NUMBER: u8;

    /// Biased f32 exponent of the smallest normal value; below it the spacing of values stays constant.
    const MIN_EXPONENT: u32 = 127 - Self::BIAS + 1;
}

const F32_MANTISSA_BITS: u32 = 23;
const F32_INFINITY: u32 = 0x7f80_0000;
const F32_QUIET_NAN: u32 = 0x7fc0_0000;

/// The code of `x`: nearest value, a tie to the even code.
pub(crate) fn encode<L: Layout>(x: f32, overflow: Overflow) -> u8 {
    let sign = u8::from(x.is_sign_negative()) << 7;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    if magnitude > F32_INFINITY {
        return sign | L::NAN;
    }
    let code = round_magnitude::<L>(magnitude);
    let max = u32::from(L::MAX_CODE);
    let code = match overflow {
        Overflow::Saturate => code.min(max),
        Overflow::NonFinite => code.min(max + 1),
    };
    sign | u8::try_from(code).expect("at most 0x7f")
}

/// The code that the bits of a non-negative number round to; above `MAX_CODE` where the format has no such value.
fn round_magnitude<L: Layout>(magnitude: u32) -> u32 {
    // x = significand * 2^(exponent - 127 - 23), where a subnormal has the exponent of the smallest normal number.
    let biased = magnitude >> F32_MANTISSA_BITS;
    let fraction = magnitude & ((1 << F32_MANTISSA_BITS) - 1);
    let (exponent, significand) = match biased {
        0 => (1, fraction),
        _ => (biased, fraction | 1 << F32_MANTISSA_BITS),
    };
    // The target's values near x are the multiples of 2^(binade - 127 - MANTISSA_BITS).
    let binade = exponent.max(L::MIN_EXPONENT);
    let dropped_bits = F32_MANTISSA_BITS - L::MANTISSA_BITS + (binade - exponent);
    let multiple = shift_right_to_nearest_even(significand, dropped_bits);
    // A normal number's multiple has its implicit one on, which adds one to the exponent field below it;
    // so does a carry out of the mantissa.
    ((binade - L::MIN_EXPONENT) << L::MANTISSA_BITS) + multiple
}

/// `value / 2^bits`, rounded to nearest, ties to even, for a `value` below 2^24.
fn shift_right_to_nearest_even(value: u32, bits: u32) -> u32 {
    if bits > 25 {
        return 0; // less than half
    }
    let odd = value >> bits & 1;
    let just_below_half = (1 << (bits - 1)) - 1;
    (value + just_below_half + odd) >> bits
}

/// The value of a code, for codes that are neither NaN nor infinite.
pub(crate) const fn decode_finite<L: Layout>(code: u8) -> f32 {
    let sign = (code as u32 >> 7) << 31;
    let magnitude = code as u32 & 0x7f;
    let exponent = magnitude >> L::MANTISSA_BITS;
    let mantissa = magnitude & ((1 << L::MANTISSA_BITS) - 1);
    let bits = if exponent == 0 {
        // mantissa * 2^(MIN_EXPONENT - 127 - MANTISSA_BITS), exactly
        let unit = f32::from_bits((L::MIN_EXPONENT - L::MANTISSA_BITS) << F32_MANTISSA_BITS);
        (mantissa as f32 * unit).to_bits()
    } else {
        (exponent + 127 - L::BIAS) << F32_MANTISSA_BITS
            | mantissa << (F32_MANTISSA_BITS - L::MANTISSA_BITS)
    };
    f32::from_bits(sign | bits)
}

/// The quiet NaN with the sign of `code` and no payload.
pub(crate) const fn nan_like(code: u8) -> f32 {
    f32::from_bits((code as u32 >> 7) << 31 | F32_QUIET_NAN)
}

/// Infinity with the sign of `code`.
pub(crate) const fn infinity_like(code: u8) -> f32 {
    f32::from_bits((code as u32 >> 7) << 31 | F32_INFINITY)
}
