//! The noise that a checkpoint's own rounding puts under its delta.

use half::{bf16, f16};
use xgraft_checkpoint::WeightMatrix;

/// Standard deviation, per element, of the error made when the weights were rounded to their
/// stored dtype: the root mean square of ulp/√12, from the exponents of the stored values.
///
/// The subtraction of two nearby BF16 numbers is exact (Sterbenz), but the fine-tune itself was
/// rounded on saving: about 0.17 % of |W| of white noise in BF16. `None` for quantized weights,
/// whose noise is no rounding of a fine-tune.
#[must_use]
pub fn rounding_noise(weights: &WeightMatrix) -> Option<f64> {
    match weights {
        WeightMatrix::Bf16 { data, .. } => Some(rms_ulp(data, |x: &bf16| {
            exponent(u32::from(x.to_bits()) << 16, 7)
        })),
        WeightMatrix::F16 { data, .. } => Some(rms_ulp(data, |x: &f16| {
            exponent(x.to_f32().to_bits(), 10).max(-24)
        })),
        WeightMatrix::F32(matrix) => {
            Some(rms_ulp(&matrix.data, |x: &f32| exponent(x.to_bits(), 23)))
        }
        WeightMatrix::Fp8(_) => None,
    }
}

/// The largest singular value that white noise of standard deviation `sigma` per element reaches
/// in an m × n matrix: σ(√m + √n). Singular values of a delta below it are not signal.
///
/// **Source**: Bai & Yin 1993, the almost sure limit of the largest singular value.
#[must_use]
pub fn noise_edge(sigma: f64, rows: usize, cols: usize) -> f64 {
    sigma * ((rows as f64).sqrt() + (cols as f64).sqrt())
}

/// log2 of the unit in the last place of an f32 whose format keeps `mantissa` bits.
fn exponent(bits: u32, mantissa: i32) -> i32 {
    let biased = ((bits >> 23) & 0xff) as i32;
    biased.max(1) - 127 - mantissa
}

/// Root mean square of 2^e/√12: exponents are counted first, so the sum has no rounding order.
fn rms_ulp<T>(values: &[T], log2_ulp: impl Fn(&T) -> i32) -> f64 {
    const OFFSET: i32 = 160;
    let mut counts = [0u64; 320];
    for value in values {
        counts[(log2_ulp(value) + OFFSET) as usize] += 1;
    }
    let sum: f64 = counts
        .iter()
        .zip(-OFFSET..)
        .filter(|(count, _)| **count > 0)
        .map(|(count, e)| *count as f64 * 4f64.powi(e))
        .sum();
    if values.is_empty() {
        return 0.0;
    }
    (sum / values.len() as f64 / 12.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_matches_the_rounding_error_that_is_made() {
        // a low-discrepancy ramp stands for weights; its true rounding error is computed beside
        let exact: Vec<f32> = (0..100_000u32)
            .map(|i| (f64::from(i).mul_add(0.618_033_988_749_895, 0.1).fract() as f32 - 0.5) * 0.1)
            .collect();
        let rounded: Vec<bf16> = exact.iter().map(|&x| bf16::from_f32(x)).collect();
        let made = exact
            .iter()
            .zip(&rounded)
            .map(|(x, r)| f64::from(x - r.to_f32()).powi(2))
            .sum::<f64>()
            / exact.len() as f64;
        let rows = rounded.len();
        let told = rounding_noise(&WeightMatrix::Bf16 {
            rows,
            cols: 1,
            data: rounded,
        })
        .unwrap();
        assert!((told / made.sqrt() - 1.0).abs() < 0.02, "{told} {}", made.sqrt());
    }
}
