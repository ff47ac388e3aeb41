//! The noise that a checkpoint's own rounding puts under its delta.

use half::{bf16, f16};
use rayon::prelude::*;
use xgraft_checkpoint::WeightMatrix;

/// Elements whose sum is taken in f32 before it goes to f64; fixed, so that the sum does not depend
/// on the number of threads.
const CHUNK: usize = 1 << 14;

/// Standard deviation, per element, of the error made when the weights were rounded to their
/// stored dtype: the root mean square of ulp/√12, from the exponents of the stored values.
///
/// The subtraction of two nearby BF16 numbers is exact (Sterbenz), but the fine-tune itself was
/// rounded on saving: about 0.17 % of |W| of white noise in BF16. `None` for quantized weights,
/// whose noise is no rounding of a fine-tune. Zeros and subnormals count as exact.
#[must_use]
pub fn rounding_noise(weights: &WeightMatrix) -> Option<f64> {
    let sigma = match weights {
        WeightMatrix::Bf16 { data, .. } => rms_ulp(data, 7, |x: bf16| u32::from(x.to_bits()) << 16),
        WeightMatrix::F16 { data, .. } => rms_ulp(data, 10, |x: f16| x.to_f32().to_bits()),
        WeightMatrix::F32(matrix) => rms_ulp(&matrix.data, 23, f32::to_bits),
        WeightMatrix::Fp8(_) | WeightMatrix::Grouped(_) => return None,
    };
    Some(sigma)
}

/// The largest singular value that white noise of standard deviation `sigma` per element reaches
/// in an m × n matrix: σ(√m + √n). Singular values of a delta below it are not signal.
///
/// **Source**: Bai & Yin 1993, the almost sure limit of the largest singular value.
#[must_use]
pub fn noise_edge(sigma: f64, rows: usize, cols: usize) -> f64 {
    sigma * ((rows as f64).sqrt() + (cols as f64).sqrt())
}

/// √(mean of ulp²/12) of numbers with `mantissa` stored bits, given as bits of f32.
fn rms_ulp<T: Copy + Sync>(values: &[T], mantissa: i32, bits: impl Fn(T) -> u32 + Sync) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let sums: Vec<f64> = values
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut lanes = [0f32; 16];
            for group in chunk.chunks(16) {
                for (lane, x) in lanes.iter_mut().zip(group) {
                    let power = f32::from_bits(bits(*x) & 0x7f80_0000); // 2^exponent
                    *lane += power * power;
                }
            }
            lanes.iter().map(|&lane| f64::from(lane)).sum()
        })
        .collect();
    let mean = sums.iter().sum::<f64>() / values.len() as f64;
    (mean / 12.0).sqrt() * f64::from(-mantissa).exp2()
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
        assert!(
            (told / made.sqrt() - 1.0).abs() < 0.02,
            "{told} {}",
            made.sqrt()
        );
    }
}
