//! The singular values seen through a Krylov basis, and what can be said about those that are not.

use crate::dense::{Eigen, multiply, narrow};
use crate::excess::relative;
use crate::factors::RESOLUTION;
use crate::{Config, Result, random};

/// Random combinations of Ritz vectors that are probed: the relative standard deviation of the estimate is at most `sqrt(2 / 16)`.
const PROBES: usize = 16;

/// Ritz values and vectors, and how far each may still rise.
///
/// In the basis, `A = D Dᵀ` is block tridiagonal: only the last block couples to what the basis leaves out, by some matrix `E`.
/// A Ritz vector whose part in the last block is `w` has the residual `E w`, and by second-order perturbation theory its
/// value `θ` rises by `‖E w‖² / (θ - η)` when the basis grows on, with `η` what `A` is like out there.
/// For `η` stands the mean of the last diagonal block. For the sum of all rises a product with a few random
/// combinations of the `w` is made; it is shared out as if `E` were a multiple of an isometry.
#[derive(Debug)]
pub(crate) struct Ritz {
    /// Squares of the Ritz singular values, descending.
    pub(crate) values: Vec<f64>,
    pub(crate) eigen: Eigen,
    /// For each Ritz value, by how much it is estimated to rise if the basis grew on.
    pub(crate) rises: Vec<f64>,
    /// First row of the last block.
    last: usize,
    /// Mean of the last diagonal block.
    mean: f64,
    norm2: f64,
}

impl Ritz {
    /// **Shapes** `gram` is `[n, n]`; its last block has `last` rows.
    pub(crate) fn new(gram: &[f64], n: usize, last: usize, norm2: f64) -> Result<Self> {
        let eigen = Eigen::new(gram, n)?;
        let values: Vec<f64> = eigen.values.iter().map(|x| x.max(0.0)).collect();
        let mean = (n - last..n).map(|i| gram[i * n + i]).sum::<f64>() / last.max(1) as f64;
        Ok(Self {
            values,
            eigen,
            rises: vec![0.0; n],
            last: n - last,
            mean,
            norm2,
        })
    }

    /// Estimates the rises. `coupling2` returns `‖E X‖_F²` for an `X` of so many columns.
    pub(crate) fn calibrate(&mut self, rank: usize, coupling2: impl Fn(&[f32], usize) -> f64) {
        let shares: Vec<f64> = (0..self.values.len()).map(|k| self.share(k)).collect();
        let total = coupling2(&self.combinations(rank), PROBES) / PROBES as f64;
        let known: f64 = shares[..rank].iter().sum();
        let scale = if known > 0.0 { total / known } else { 0.0 };
        self.rises = shares.iter().map(|share| share * scale).collect();
    }

    /// `1 / (θ - η)` of Ritz value `k`, with a difference of at least a tenth of `θ`: perturbation theory ends there.
    fn weight(&self, k: usize) -> f64 {
        let floor = self.norm2 * (RESOLUTION * RESOLUTION);
        1.0 / (self.values[k] - self.mean)
            .max(0.1 * self.values[k])
            .max(floor)
    }

    /// What value `k` rises by, in units of the mean squared coupling.
    fn share(&self, k: usize) -> f64 {
        let last = self.last..self.values.len();
        self.weight(k) * last.map(|i| self.eigen.vector(i, k).powi(2)).sum::<f64>()
    }

    /// Random combinations of the parts in the last block of the first `rank` Ritz vectors, weighted so that
    /// the expected `‖E x‖²` of each is the sum of the rises. Row-major `[last, PROBES]`.
    fn combinations(&self, rank: usize) -> Vec<f32> {
        let sign = |k: usize, probe: usize| {
            if random::mix(probe as u64, k as u64) & 1 == 0 {
                1.0
            } else {
                -1.0
            }
        };
        let factors = |k: usize| {
            let root = self.weight(k).sqrt();
            (0..PROBES).map(move |probe| root * sign(k, probe))
        };
        let factors: Vec<f64> = (0..rank).flat_map(factors).collect();
        let last = self.last..self.values.len();
        let parts: Vec<f64> = last
            .flat_map(|i| (0..rank).map(move |k| self.eigen.vector(i, k)))
            .collect();
        narrow(&multiply(&parts, &factors, rank, PROBES))
    }

    /// Whether the first `rank` values are estimated to be within the tolerance of `config` of what they can be.
    pub(crate) fn settled(&self, rank: usize, config: &Config) -> bool {
        let left = self.norm2 - self.values[..rank].iter().sum::<f64>();
        let rise: f64 = self.rises[..rank].iter().sum();
        rank < self.values.len() && relative(left, left - rise) <= config.tolerance
    }
}
