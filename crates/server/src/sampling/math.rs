//! `exp` and `ln` whose bits are the same on every platform.
//!
//! The C library's depend on its version and on the processor that it finds. These are additions and multiplications in
//! a fixed order, so a draw is the same everywhere. The compiler vectorizes [`exp`].

/// eˣ of a number that is not positive; 0 below −708, where the result would be subnormal.
///
/// The error is below 2⁻⁵¹ of the result.
///
/// **Source** Cody and Waite's range reduction, x = k·ln 2 + r with |r| ≤ ln 2 / 2, and Taylor's series of eʳ.
#[inline]
#[expect(
    clippy::excessive_precision,
    reason = "the two parts of ln 2 are written as they are defined"
)]
pub(crate) fn exp(x: f64) -> f64 {
    /// Adding it leaves the nearest integer in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = 6.931_471_803_691_238_164_90e-01;
    const LN2_LOW: f64 = 1.908_214_929_270_587_700_02e-10;
    let clamped = if x < -708.0 { -708.0 } else { x };
    let rounded = clamped * std::f64::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = (clamped - k * LN2_HIGH) - k * LN2_LOW;
    let power = f64::from_bits((rounded.to_bits() << 52).wrapping_add(1.0_f64.to_bits()));
    if x < -708.0 { 0.0 } else { taylor(r) * power }
}

/// Σ rⁿ/n! for n ≤ 13: the rest is below 2⁻⁵⁷ for |r| ≤ ln 2 / 2.
#[inline]
fn taylor(r: f64) -> f64 {
    const INVERSE_FACTORIALS: [f64; 14] = inverse_factorials();
    let mut sum = INVERSE_FACTORIALS[13];
    let mut n = 13;
    while n > 0 {
        n -= 1;
        sum = sum * r + INVERSE_FACTORIALS[n];
    }
    sum
}

const fn inverse_factorials() -> [f64; 14] {
    let mut all = [1.0; 14];
    let mut factorial = 1.0;
    let mut n = 1;
    while n < 14 {
        factorial *= n as f64;
        all[n] = 1.0 / factorial;
        n += 1;
    }
    all
}

/// The natural logarithm of a positive normal number.
///
/// **Source** ln m = 2·artanh((m − 1)/(m + 1)) for the mantissa m between √½ and √2.
pub(crate) fn ln(x: f64) -> f64 {
    const ONE: u64 = 1.0_f64.to_bits();
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | ONE);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..11)
        .rev()
        .fold(0.0, |sum, n| sum * square + 1.0 / (2 * n + 1) as f64);
    exponent * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_the_c_library_within_two_units() {
        for i in 0..200_000 {
            let x = -f64::from(i) * 0.003_541;
            if x < -708.0 {
                break;
            }
            let (ours, theirs) = (exp(x), x.exp());
            assert!(
                (ours - theirs).abs() <= 2.0 * f64::EPSILON * theirs,
                "exp({x}): {ours} and {theirs}"
            );
        }
    }

    #[test]
    fn exp_of_the_ends_is_one_and_zero() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(-709.0), 0.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert!(exp(-708.0) > 0.0);
    }

    #[test]
    fn ln_is_that_of_the_c_library_within_two_units() {
        for i in 1..100_000 {
            let x = f64::from(i) * 1.7;
            let (ours, theirs) = (ln(x), x.ln());
            assert!(
                (ours - theirs).abs() <= 4.0 * f64::EPSILON * theirs.abs(),
                "ln({x})"
            );
        }
        assert_eq!(ln(1.0), 0.0);
    }
}
