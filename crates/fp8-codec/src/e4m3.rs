//! E4M3FN.

use half::bf16;

use crate::{
    Overflow,
    minifloat::{Layout, decode_finite, encode, nan_like},
};

/// A number in E4M3FN: one sign bit, four exponent bits (bias 7), three mantissa bits, no infinity.
///
/// Largest value 448, smallest normal 2^-6, smallest subnormal 2^-9, NaN `0x7f` and `0xff`.
///
/// **Source** OCP 8-bit floating point specification (OFP8) 1.0, `E4M3`; `ml_dtypes.float8_e4m3fn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct E4m3(u8);

impl Layout for E4m3 {
    const MANTISSA_BITS: u32 = 3;
    const BIAS: u32 = 7;
    const MAX_CODE: u8 = 0x7e;
    const MAX: f32 = 448.0;
    const BEYOND: f32 = 480.0;
    const NAN: u8 = 0x7f;
    const LAST_NUMBER: u8 = 0x7e;
}

impl E4m3 {
    /// The largest finite value.
    pub const MAX: f32 = 448.0;
    /// The smallest positive normal value, 2^-6.
    pub const MIN_POSITIVE: f32 = f32::from_bits(Self::MIN_EXPONENT << 23);

    /// The number with this code.
    pub const fn from_bits(code: u8) -> Self {
        Self(code)
    }

    /// The code.
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// The nearest number, a tie to the even code.
    ///
    /// Not saturating, magnitudes above 464 and infinity become NaN (464 itself is a tie, and 448 is the even side).
    /// NaN becomes `0x7f` with the sign kept. A negative number too small becomes `0x80`, minus zero.
    pub fn encode(x: f32, overflow: Overflow) -> Self {
        Self(encode::<Self>(x, overflow))
    }

    /// [`Self::encode`] of a bf16, which every f32 operation represents exactly.
    pub fn encode_bf16(x: bf16, overflow: Overflow) -> Self {
        Self::encode(x.to_f32(), overflow)
    }

    /// The value, exactly. NaN becomes the quiet NaN without payload, sign kept.
    pub const fn decode(self) -> f32 {
        if self.is_nan() {
            nan_like(self.0)
        } else {
            decode_finite::<Self>(self.0)
        }
    }

    /// The value, exactly: every E4M3 number is a bf16.
    pub const fn decode_bf16(self) -> bf16 {
        bf16::from_bits((self.decode().to_bits() >> 16) as u16)
    }

    /// Whether this is NaN.
    pub const fn is_nan(self) -> bool {
        self.0 & 0x7f == 0x7f
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_begins_above_464() {
        let next = f32::from_bits(464f32.to_bits() + 1);
        assert_eq!(E4m3::encode(464.0, Overflow::NonFinite), E4m3(0x7e));
        assert_eq!(E4m3::encode(next, Overflow::NonFinite), E4m3(0x7f));
        assert_eq!(E4m3::encode(-next, Overflow::NonFinite), E4m3(0xff));
        assert_eq!(E4m3::encode(-next, Overflow::Saturate), E4m3(0xfe));
        assert_eq!(E4m3::encode(f32::INFINITY, Overflow::Saturate), E4m3(0x7e));
    }

    #[test]
    fn nan_keeps_its_sign_and_loses_its_payload() {
        for bits in [0x7f80_0001, 0x7fc0_0000, 0x7fff_ffff] {
            for overflow in [Overflow::Saturate, Overflow::NonFinite] {
                let (plus, minus) = (f32::from_bits(bits), f32::from_bits(bits | 1 << 31));
                assert_eq!(E4m3::encode(plus, overflow), E4m3(0x7f));
                assert_eq!(E4m3::encode(minus, overflow), E4m3(0xff));
            }
        }
        assert_eq!(E4m3(0xff).decode().to_bits(), 0xffc0_0000);
        assert_eq!(E4m3(0xff).decode_bf16().to_bits(), 0xffc0);
    }

    #[test]
    fn half_of_the_smallest_subnormal_rounds_to_zero_and_more_does_not() {
        let half = 2f32.powi(-10);
        assert_eq!(E4m3::encode(half, Overflow::Saturate), E4m3(0x00));
        assert_eq!(E4m3::encode(-half, Overflow::Saturate), E4m3(0x80));
        let more = f32::from_bits(half.to_bits() + 1);
        assert_eq!(E4m3::encode(more, Overflow::Saturate), E4m3(0x01));
        assert_eq!(E4m3::encode(f32::from_bits(1), Overflow::Saturate), E4m3(0));
    }
}
