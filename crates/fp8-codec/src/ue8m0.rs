//! UE8M0, the format of scales that are powers of two.

/// A power of two in UE8M0: eight exponent bits, no sign, no mantissa.
///
/// Code `c` is 2^(c − 127); `0xff` is NaN. There is no zero and no infinity.
///
/// **Source** OCP Microscaling formats (MX) 1.0, `E8M0`; `ml_dtypes.float8_e8m0fnu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Ue8m0(u8);

const MANTISSA: u32 = 0x7f_ffff;
const HALF: u32 = 0x40_0000;
const NAN: u8 = 0xff;

impl Ue8m0 {
    /// The number with this code.
    pub const fn from_bits(code: u8) -> Self {
        Self(code)
    }

    /// The code.
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// The nearest power of two; 1.5 × 2^n, as far from one as from the other, goes up.
    ///
    /// Zero of either sign, negative numbers, infinity, NaN and numbers from 1.5 × 2^127 on become NaN.
    /// Numbers up to 2^-127 become 2^-127. What lies strictly between 2^-127 and 2^-126 (subnormal in f32) becomes 2^-126,
    /// whichever of the two is nearer: `ml_dtypes` and `torch` both do so, and this function is held against them.
    pub fn encode_nearest(x: f32) -> Self {
        Self::encode(x, HALF)
    }

    /// The smallest power of two that is not below `x`; a scale made so never lets a quotient overflow.
    ///
    /// Zero of either sign, negative numbers, infinity, NaN and numbers above 2^127 become NaN.
    /// Numbers up to 2^-127 become 2^-127.
    pub fn encode_ceil(x: f32) -> Self {
        Self::encode(x, 1)
    }

    /// The exponent of `x`, plus one where its 23 mantissa bits are at least `least_that_rounds_up`.
    fn encode(x: f32, least_that_rounds_up: u32) -> Self {
        if x <= 0.0 || !x.is_finite() {
            return Self(NAN);
        }
        let (exponent, mantissa) = (x.to_bits() >> 23, x.to_bits() & MANTISSA);
        // A subnormal is mantissa * 2^-149; the smallest code, 0, is 2^-127 = HALF * 2^-149.
        let up = match exponent {
            0 => mantissa > HALF,
            _ => mantissa >= least_that_rounds_up,
        };
        Self(u8::try_from(exponent + u32::from(up)).expect("an f32 exponent below 255, plus one"))
    }

    /// The value, exactly; 2^-127 is a subnormal f32.
    pub const fn decode(self) -> f32 {
        match self.0 {
            NAN => f32::NAN,
            0 => f32::from_bits(HALF),
            code => f32::from_bits((code as u32) << 23),
        }
    }

    /// Whether this is NaN.
    pub const fn is_nan(self) -> bool {
        self.0 == NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_survive_both_roundings() {
        for code in 0..NAN {
            let x = Ue8m0(code).decode();
            assert_eq!(f64::from(x).log2(), f64::from(code) - 127.0);
            assert_eq!(Ue8m0::encode_nearest(x), Ue8m0(code));
            assert_eq!(Ue8m0::encode_ceil(x), Ue8m0(code));
        }
    }

    #[test]
    fn a_tie_goes_up_and_the_ceiling_always_does() {
        let just_above = f32::from_bits(1f32.to_bits() + 1);
        assert_eq!(Ue8m0::encode_nearest(1.5).decode(), 2.0);
        assert_eq!(Ue8m0::encode_nearest(3.0).decode(), 4.0);
        assert_eq!(Ue8m0::encode_nearest(1.49).decode(), 1.0);
        assert_eq!(Ue8m0::encode_ceil(just_above).decode(), 2.0);
    }

    #[test]
    fn what_is_not_a_positive_number_in_range_becomes_nan() {
        for x in [0.0, -0.0, -1.0, f32::INFINITY, f32::NAN, f32::MAX] {
            assert!(Ue8m0::encode_nearest(x).is_nan(), "{x}");
            assert!(Ue8m0::encode_ceil(x).is_nan(), "{x}");
        }
        assert!(Ue8m0(NAN).decode().is_nan());
    }

    #[test]
    fn the_smallest_numbers_become_the_smallest_power() {
        let smallest = f32::from_bits(1);
        assert_eq!(Ue8m0::encode_nearest(smallest), Ue8m0(0));
        assert_eq!(Ue8m0::encode_ceil(smallest), Ue8m0(0));
        assert_eq!(Ue8m0::encode_ceil(f32::from_bits(HALF)), Ue8m0(0));
        assert_eq!(Ue8m0::encode_ceil(f32::from_bits(HALF + 1)), Ue8m0(1));
    }
}
