//! From a small eigenproblem to the factors.

use rayon::prelude::*;
use xgraft_cpu_gemm::{Side, gram, gram_f64};

use crate::Result;
use crate::basis::NOISE;
use crate::cholesky::PivotedCholesky;
use crate::dense::{Svd, multiply, narrow};
use crate::factors::RESOLUTION;
use crate::panel::Panel;

/// `short · diag(values) · longᵀ`, the factors by the side they are on. The columns of both are orthonormal.
#[derive(Debug)]
pub(crate) struct Triplets {
    pub(crate) short: Panel,
    pub(crate) long: Panel,
    pub(crate) values: Vec<f64>,
}

impl Triplets {
    /// From orthonormal columns and their image, the columns in descending order of their images' lengths.
    ///
    /// Images that are rounding next to the first one are left out.
    pub(crate) fn new(mut short: Panel, mut long: Panel) -> Result<Self> {
        let units = normalize(&mut short);
        let lengths = normalize(&mut long);
        let values: Vec<f64> = lengths
            .iter()
            .zip(units)
            .map(|(l, u)| if u > 0.0 { l / u } else { 0.0 })
            .collect();
        let first = values.first().copied().unwrap_or(0.0);
        let rank = values
            .iter()
            .take_while(|s| **s > RESOLUTION * first)
            .count();
        let triplets = Self {
            short: short.leading(rank),
            long: long.leading(rank),
            values: values[..rank].to_vec(),
        };
        triplets.polish()
    }

    /// Makes the long columns orthonormal where they are not.
    ///
    /// A short column is right to f32 rounding, so its image holds about `1e-7` of the first one, which is a lot where the
    /// singular values span several orders of magnitude. With `long = Q R`, the SVD of the small `diag(values) Rᵀ` puts that right.
    fn polish(self) -> Result<Self> {
        /// Deviation from orthonormality that is left alone.
        const GOOD: f32 = 5e-6;
        let r = self.values.len();
        if off_diagonal(&gram(&self.long.source(), Side::Cols), r) <= GOOD {
            return Ok(self);
        }
        let gram = gram_f64(&self.long.source(), Side::Cols);
        let factor = PivotedCholesky::new(&gram, r, NOISE * NOISE);
        let (n, k) = (factor.orthonormalizer(), factor.rank);
        let mut core = multiply(&gram, &n, r, k);
        for (row, value) in core.chunks_exact_mut(k).zip(&self.values) {
            row.iter_mut().for_each(|x| *x *= value);
        }
        let svd = Svd::new(&core, r, k)?;
        let first = svd.values.first().copied().unwrap_or(0.0);
        let rank = svd
            .values
            .iter()
            .take_while(|s| **s > RESOLUTION * first)
            .count();
        let rotation = multiply(&n, &svd.v, k, k);
        Ok(Self {
            short: self.short.times(&narrow(&svd.u), k).leading(rank),
            long: self.long.times(&narrow(&rotation), k).leading(rank),
            values: svd.values[..rank].to_vec(),
        })
    }
}

/// The largest element off the diagonal of a `[n, n]` matrix.
fn off_diagonal(matrix: &[f32], n: usize) -> f32 {
    let off = matrix.iter().enumerate().filter(|(at, _)| at / n != at % n);
    off.fold(0.0, |most, (_, x)| most.max(x.abs()))
}

/// Divides the columns of a panel by their lengths, which it returns. Columns of zeros stay.
fn normalize(panel: &mut Panel) -> Vec<f64> {
    /// Rows that one task sums up: fixed, so that the order of the sum is.
    const ROWS: usize = 256;
    let width = panel.width;
    if width == 0 {
        return Vec::new();
    }
    let squares = |rows: &[f32]| {
        let mut sums = vec![0.0; width];
        for row in rows.chunks_exact(width) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += f64::from(*x) * f64::from(*x);
            }
        }
        sums
    };
    let parts: Vec<Vec<f64>> = panel.data.par_chunks(ROWS * width).map(squares).collect();
    let mut lengths = vec![0.0_f64; width];
    for part in parts {
        lengths
            .iter_mut()
            .zip(part)
            .for_each(|(length, sum)| *length += sum);
    }
    lengths.iter_mut().for_each(|x| *x = x.sqrt());
    let inverse = |x: &f64| if *x > 0.0 { (1.0 / x) as f32 } else { 0.0 };
    let scale: Vec<f32> = lengths.iter().map(inverse).collect();
    panel.data.par_chunks_mut(ROWS * width).for_each(|rows| {
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut()
                .zip(&scale)
                .for_each(|(x, scale)| *x *= scale);
        }
    });
    lengths
}
