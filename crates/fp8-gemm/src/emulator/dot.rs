//! One step of a tensor core.

use std::sync::LazyLock;

use half::bf16;

/// Products of one step on E4M3.
pub const E4M3_STEP: usize = 32;
/// Fractional bits that a step on E4M3 keeps.
const E4M3_BITS: i32 = 13;
/// Fractional bits that a step on BF16 keeps.
const BF16_BITS: i32 = 25;
/// Bits of an f32's mantissa.
const F32_BITS: i32 = 23;
/// What a tensor core gives for NaN.
const NAN: f32 = f32::from_bits(0x7fff_ffff);

/// `significand · 2^(exponent − fraction)`, the significand signed.
#[derive(Clone, Copy)]
struct Term {
    significand: i64,
    fraction: i32,
    exponent: i32,
}

/// `c + Σ a[i]·b[i]` as wgmma computes it on E4M3 codes.
///
/// **Shapes** at most 32 codes each.
///
/// # Panics
/// If there are more, or not as many of `a` as of `b`.
pub fn dot_e4m3(a: &[u8], b: &[u8], c: f32) -> f32 {
    assert!(a.len() == b.len() && a.len() <= E4M3_STEP);
    let mut terms = [None; E4M3_STEP + 1];
    for (term, (&a, &b)) in terms.iter_mut().zip(a.iter().zip(b)) {
        let (Some(a), Some(b)) = (CODES[usize::from(a)], CODES[usize::from(b)]) else {
            return NAN;
        };
        *term = times(a, b);
    }
    terms[E4M3_STEP] = match term_of(c) {
        Ok(term) => term,
        Err(special) => return special,
    };
    fused_sum(&terms, E4M3_BITS, E4M3_BITS)
}

/// `c + Σ a[i]·b[i]` as wgmma computes it on BF16.
///
/// **Shapes** at most 16 numbers each.
///
/// # Panics
/// If there are more, or not as many of `a` as of `b`.
pub fn dot_bf16(a: &[bf16], b: &[bf16], c: f32) -> f32 {
    assert!(a.len() == b.len() && a.len() <= 16);
    let mut terms = [None; 17];
    let mut special = None;
    for (term, (a, b)) in terms.iter_mut().zip(a.iter().zip(b)) {
        let (a, b) = (a.to_f32(), b.to_f32());
        match (term_of(a), term_of(b)) {
            // The significands have 16 zeros below their 8 bits; without them the product fits.
            (Ok(x), Ok(y)) => {
                let factors = x.map(shorter).zip(y.map(shorter));
                *term = factors.and_then(|(x, y)| times(x, y));
            }
            _ => special = Some(special.unwrap_or(0.0) + a * b),
        }
    }
    match (term_of(c), special) {
        (Ok(term), None) => terms[16] = term,
        (_, special) => {
            let sum = c + special.unwrap_or(0.0);
            return if sum.is_nan() { NAN } else { sum };
        }
    }
    fused_sum(&terms, BF16_BITS, F32_BITS)
}

/// Every code of E4M3; `None` for NaN.
static CODES: LazyLock<[Option<Term>; 256]> = LazyLock::new(|| {
    std::array::from_fn(|code| {
        let (exponent, mantissa) = ((code >> 3 & 15) as i32, (code & 7) as i64);
        if exponent == 15 && mantissa == 7 {
            return None;
        }
        let (significand, exponent) = match exponent {
            0 => (mantissa, -6),
            e => (8 + mantissa, e - 7),
        };
        Some(Term {
            significand: if code & 0x80 == 0 {
                significand
            } else {
                -significand
            },
            fraction: 3,
            exponent,
        })
    })
});

/// An f32 as a term, `None` for zero; itself if it is not finite.
fn term_of(x: f32) -> Result<Option<Term>, f32> {
    if !x.is_finite() {
        return Err(if x.is_nan() { NAN } else { x });
    }
    let bits = x.to_bits();
    let (exponent, mantissa) = ((bits >> 23 & 255) as i32, i64::from(bits & 0x7f_ffff));
    let (significand, exponent) = match exponent {
        0 => (mantissa, -126),
        e => (mantissa | 1 << 23, e - 127),
    };
    Ok((significand != 0).then_some(Term {
        significand: if x.is_sign_negative() {
            -significand
        } else {
            significand
        },
        fraction: F32_BITS,
        exponent,
    }))
}

fn shorter(term: Term) -> Term {
    Term {
        significand: term.significand >> 16,
        fraction: term.fraction - 16,
        ..term
    }
}

/// The product, not normalised: its exponent is the sum of the exponents.
fn times(a: Term, b: Term) -> Option<Term> {
    let significand = a.significand * b.significand;
    (significand != 0).then_some(Term {
        significand,
        fraction: a.fraction + b.fraction,
        exponent: a.exponent + b.exponent,
    })
}

/// The sum of terms aligned to the largest exponent with `keep` fractional bits, truncated to `mantissa` bits.
fn fused_sum(terms: &[Option<Term>], keep: i32, mantissa: i32) -> f32 {
    let all = terms.iter().flatten();
    let Some(largest) = all.clone().map(|term| term.exponent).max() else {
        return 0.0;
    };
    let aligned = all.map(|term| {
        let by = keep - term.fraction + term.exponent - largest;
        shift(term.significand, by)
    });
    let sum: i64 = aligned.sum();
    if sum == 0 {
        return 0.0;
    }
    let top = 63 - sum.unsigned_abs().leading_zeros() as i32;
    // The lowest bit that is kept: of the mantissa, or of f32's subnormals.
    let lowest = (top - mantissa).max(-149 - (largest - keep));
    let kept = if lowest > 0 {
        shift(shift(sum, -lowest), lowest)
    } else {
        sum
    };
    (kept as f64 * 2f64.powi(largest - keep)) as f32
}

/// `v · 2^by`, truncated towards zero.
fn shift(v: i64, by: i32) -> i64 {
    match by {
        _ if v == 0 => 0,
        0.. => v << by,
        -62..0 => v.signum() * (v.abs() >> -by),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xgraft_fp8_codec::E4m3;

    #[test]
    fn every_code_has_its_value() {
        for code in 0..=255u8 {
            let value = E4m3::from_bits(code).decode();
            // 1 · code, with nothing to be lost beside it.
            let ours = dot_e4m3(&[0x38], &[code], 0.0);
            assert!(
                ours == value || (ours.is_nan() && value.is_nan()),
                "{code:#x}"
            );
        }
    }

    #[test]
    fn the_accumulator_keeps_13_bits_of_its_mantissa() {
        let c = f32::from_bits(0x4040_3017);
        let zeros = [0; 32];
        let kept = dot_e4m3(&zeros, &zeros, c).to_bits();
        assert_eq!(kept, 0x4040_3017 & !0x3ff);
    }

    #[test]
    fn small_products_vanish_beside_a_large_one() {
        // 448·448 has exponent 16, so bits below 2^(16−13) = 8 of each other product are lost, and each of them is 1/8.
        let (mut a, mut b) = ([0x38; 32], [0x20; 32]);
        (a[0], b[0]) = (0x7e, 0x7e);
        assert_eq!(dot_e4m3(&a, &b, 0.0), 448.0 * 448.0);
    }

    #[test]
    fn terms_are_truncated_towards_zero_on_both_sides() {
        // 2^8 + 2^-6·1.125: the second is cut to 13 bits below 2^8, to 2^-5's multiples, so to zero; and so is its negative.
        let one = 0x78; // 256
        for small in [0x08 | 1, 0x88 | 1] {
            assert_eq!(dot_e4m3(&[one, 0x38], &[0x38, small], 0.0), 256.0);
        }
    }

    #[test]
    fn nan_of_either_kind_gives_nan() {
        assert!(dot_e4m3(&[0x7f], &[0x00], 0.0).is_nan());
        assert!(dot_e4m3(&[0x38], &[0x38], f32::NAN).is_nan());
        assert_eq!(dot_e4m3(&[0x38], &[0x38], f32::INFINITY), f32::INFINITY);
        let inf = bf16::INFINITY;
        assert!(dot_bf16(&[inf, inf], &[bf16::ONE, bf16::NEG_ONE], 0.0).is_nan());
        assert_eq!(dot_bf16(&[inf], &[bf16::NEG_ONE], 0.0), f32::NEG_INFINITY);
    }

    #[test]
    fn bf16_products_are_exact_alone_and_sums_are_truncated_to_f32() {
        let (a, b) = (bf16::from_f32(1.007_812_5), bf16::from_f32(-3.015_625));
        assert_eq!(dot_bf16(&[a], &[b], 0.0), a.to_f32() * b.to_f32());
        // 1 + 2^-24·1.5 rounds up to nearest, but is truncated here.
        let tiny = bf16::from_f32(2f32.powi(-12));
        let half = bf16::from_f32(1.5 * 2f32.powi(-12));
        assert_eq!(dot_bf16(&[tiny], &[half], 1.0), 1.0);
    }

    #[test]
    fn the_smallest_numbers_do_not_overflow_a_shift() {
        let least = f32::from_bits(1);
        assert_eq!(dot_e4m3(&[0x7e], &[0x7e], least), 448.0 * 448.0);
        // 2^-149 stands 23 bits below the exponent that it is written with, and 13 are kept.
        assert_eq!(dot_e4m3(&[0], &[0], least), 0.0);
        let min = bf16::from_bits(1);
        assert_eq!(dot_bf16(&[min], &[min], 0.0), 0.0);
    }
}
