//! Controls that need no memory: numbers that are a function of seed and position.

use std::ops::Range;

use xgraft_cpu_gemm::{Source, assert_rectangle};
use xgraft_low_rank::{almost_normal, mix};

/// A matrix `[rows, cols]` of independent numbers of mean 0 and variance 1, close to normal.
///
/// Each element is the sum of four uniform numbers of 16 bits, which is exact in f32, so no platform's logarithm has a say.
/// Its cosine with any fixed matrix has mean 0 and standard deviation 1/√(rows·cols), whatever its length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normal {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) seed: u64,
}

impl Source for Normal {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        assert_rectangle((self.rows, self.cols), &rows, &cols, dst.len(), ld);
        for (i, row) in rows.enumerate() {
            let first = (row * self.cols + cols.start) as u64;
            for (x, position) in dst[i * ld..][..cols.len()].iter_mut().zip(first..) {
                *x = almost_normal(mix(self.seed, position));
            }
        }
    }
}

/// A permutation of `0..len`.
///
/// **Source** Fisher and Yates, in the form of Durstenfeld 1964.
pub(crate) fn permutation(len: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        let at = mix(seed, last as u64) % (last as u64 + 1);
        order.swap(last, at as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use xgraft_cpu_gemm::{F32, inner_products};

    use super::*;

    #[test]
    fn elements_have_mean_0_and_variance_1_and_do_not_depend_on_the_rectangle() {
        let normal = Normal {
            rows: 300,
            cols: 200,
            seed: 3,
        };
        let ones = vec![1.0; 60_000];
        let [square, sum, n] = inner_products(&normal, &F32::new(&ones, 300, 200));
        assert!((square / n - 1.0).abs() < 0.02, "{}", square / n);
        assert!((sum / n).abs() < 4.0 / n.sqrt(), "{}", sum / n);

        let (mut all, mut one) = (vec![0.0; 60_000], [0.0]);
        normal.pack(0..300, 0..200, &mut all, 200);
        normal.pack(17..18, 33..34, &mut one, 1);
        assert_eq!(one[0].to_bits(), all[17 * 200 + 33].to_bits());
    }

    #[test]
    fn a_permutation_has_every_number_once_and_moves_most() {
        let order = permutation(1000, 5);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, x)| i == *x));
        let kept = order.iter().enumerate().filter(|(i, x)| i == *x).count();
        assert!(kept < 10, "{kept} of 1000 stand where they stood");
        assert_ne!(order, permutation(1000, 6));
    }
}
