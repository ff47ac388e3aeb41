//! E5M2.

use half::bf16;

use crate::{
    Overflow,
    minifloat::{Layout, decode_finite, encode, infinity_like, nan_like},
};

/// A number in E5M2: one sign bit, five exponent bits (bias 15), two mantissa bits; the upper half of an f16.
///
/// Largest value 57344, smallest normal 2^-14, smallest subnormal 2^-16, infinity `0x7c`, NaN `0x7d` to `0x7f`.
///
/// **Source** OCP 8-bit floating point specification (OFP8) 1.0, `E5M2`; `ml_dtypes.float8_e5m2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct E5m2(u8);

impl Layout for E5m2 {
    const MANTISSA_BITS: u32 = 2;
    const BIAS: u32 = 15;
    const MAX_CODE: u8 = 0x7b;
    const MAX: f32 = 57344.0;
    const BEYOND: f32 = 65536.0;
    const NAN: u8 = 0x7e;
    const LAST_NUMBER: u8 = 0x7c;
}

impl E5m2 {
    /// The largest finite value.
    pub const MAX: f32 = 57344.0;
    /// The smallest positive normal value, 2^-14.
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
    /// Not saturating, magnitudes from 61440 on (a tie, and infinity is the even side) become infinity.
    /// NaN becomes `0x7e` with the sign kept. A negative number too small becomes `0x80`, minus zero.
    pub fn encode(x: f32, overflow: Overflow) -> Self {
        Self(encode::<Self>(x, overflow))
    }

    /// [`Self::encode`] of a bf16, which every f32 operation represents exactly.
    pub fn encode_bf16(x: bf16, overflow: Overflow) -> Self {
        Self::encode(x.to_f32(), overflow)
    }

    /// The value, exactly. Every NaN becomes the quiet NaN without payload, sign kept.
    pub const fn decode(self) -> f32 {
        if self.is_nan() {
            nan_like(self.0)
        } else if self.is_infinite() {
            infinity_like(self.0)
        } else {
            decode_finite::<Self>(self.0)
        }
    }

    /// The value, exactly: every E5M2 number is a bf16.
    pub const fn decode_bf16(self) -> bf16 {
        bf16::from_bits((self.decode().to_bits() >> 16) as u16)
    }

    /// Whether this is NaN.
    pub const fn is_nan(self) -> bool {
        self.0 & 0x7f > 0x7c
    }

    /// Whether this is an infinity.
    pub const fn is_infinite(self) -> bool {
        self.0 & 0x7f == 0x7c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_begins_at_61440() {
        let below = f32::from_bits(61440f32.to_bits() - 1);
        assert_eq!(E5m2::encode(below, Overflow::NonFinite), E5m2(0x7b));
        assert_eq!(E5m2::encode(61440.0, Overflow::NonFinite), E5m2(0x7c));
        assert_eq!(E5m2::encode(-61440.0, Overflow::NonFinite), E5m2(0xfc));
        assert_eq!(E5m2::encode(-61440.0, Overflow::Saturate), E5m2(0xfb));
        assert_eq!(E5m2::encode(f32::INFINITY, Overflow::NonFinite), E5m2(0x7c));
    }

    #[test]
    fn nan_encodes_to_0x7e_with_its_sign() {
        assert_eq!(
            E5m2::encode(f32::from_bits(0x7f80_0001), Overflow::NonFinite),
            E5m2(0x7e)
        );
        assert_eq!(
            E5m2::encode(f32::from_bits(0xffff_ffff), Overflow::Saturate),
            E5m2(0xfe)
        );
    }

    #[test]
    fn a_value_is_the_f16_whose_upper_byte_is_the_code() {
        for code in 0..=u8::MAX {
            let ours = E5m2(code).decode();
            let f16 = half::f16::from_bits(u16::from(code) << 8).to_f32();
            assert!(
                ours.to_bits() == f16.to_bits() || (ours.is_nan() && f16.is_nan()),
                "{code:#x}"
            );
        }
    }
}
