//! The singular values seen through a Krylov basis, and how far they may still rise.

use crate::Result;
use crate::dense::{Eigen, eigenvalues};
use crate::excess::relative;
use crate::factors::{DRIFT, RESOLUTION};

/// Ritz values and vectors, and what they are short of.
///
/// In the basis, `A = D Dᵀ` is block tridiagonal: only the last block couples to what the basis leaves out, by some matrix `E`.
/// A Ritz vector whose part in the last block is `w` has the residual `E w`, and by second-order perturbation theory its
/// value `θ` rises by `‖E w‖² / (θ - η)` when the basis grows on, with `η` what `A` is like out there;
/// the mean of the last diagonal block stands for it.
#[derive(Debug)]
pub(crate) struct Ritz {
    /// Squares of the Ritz singular values, descending.
    pub(crate) values: Vec<f64>,
    pub(crate) eigen: Eigen,
    /// For each value, by how much it is estimated to rise if the basis grew on.
    pub(crate) rises: Vec<f64>,
    /// For some of the first values, by how much they can rise at most; none where that is not known.
    pub(crate) lifts: Vec<f64>,
    norm2: f64,
}

impl Ritz {
    /// For a basis that cannot grow. **Shapes** `gram` is `[n, n]`.
    pub(crate) fn new(gram: &[f64], n: usize, norm2: f64) -> Result<Self> {
        let eigen = Eigen::new(gram, n)?;
        let values: Vec<f64> = eigen.values.iter().map(|x| x.max(0.0)).collect();
        Ok(Self {
            rises: vec![0.0; n],
            lifts: Vec::new(),
            values,
            eigen,
            norm2,
        })
    }

    /// For a basis that can: `coupling` is `EᵀE`, `[last, last]`, and `mean` that of the last diagonal block.
    pub(crate) fn couple(&mut self, coupling: &[f64], last: usize, mean: f64) {
        let n = self.values.len();
        let rise = |k: usize| {
            let part: Vec<f64> = (n - last..n).map(|i| self.eigen.vector(i, k)).collect();
            let rows = coupling.chunks_exact(last);
            let residual2: f64 = rows.zip(&part).map(|(row, x)| x * dot(row, &part)).sum();
            // Perturbation theory ends where the difference is small.
            let gap = (self.values[k] - mean).max(0.1 * self.values[k]);
            residual2.max(0.0) / gap.max(self.norm2 * RESOLUTION * RESOLUTION)
        };
        self.rises = (0..n).map(rise).collect();
    }

    /// Bounds the rises of the first `rank` values, if the last of them is above all that the basis leaves out.
    ///
    /// Let `T` be `A` in the basis, `S` in its complement, and `c` the trace of `S`, which bounds its eigenvalues. For any `δ > 0`
    /// `[[T, Eᵀ], [E, S]] ≤ diag(T + EᵀE/δ, S + δ)`, as their difference is positive semidefinite. With `δ = θ_r - c`
    /// the second part has no eigenvalue above `θ_r`, so the first `r` eigenvalues of `A` are at most those of `T + EᵀE/δ`.
    pub(crate) fn certify(
        &mut self,
        rank: usize,
        gram: &[f64],
        coupling: &[f64],
        last: usize,
    ) -> Result<()> {
        let (n, outside) = (
            self.values.len(),
            self.norm2 - self.values.iter().sum::<f64>(),
        );
        let Some(least) = rank.checked_sub(1).map(|k| self.values[k]) else {
            return Ok(());
        };
        let gap = least - outside.max(0.0) - self.norm2 * DRIFT;
        if gap <= 0.0 {
            return Ok(());
        }
        let mut raised = gram.to_vec();
        for (row, coupling) in (n - last..n).zip(coupling.chunks_exact(last)) {
            let to = &mut raised[row * n + n - last..][..last];
            to.iter_mut().zip(coupling).for_each(|(x, c)| *x += c / gap);
        }
        let raised = eigenvalues(&raised, n)?;
        let lifts = raised.iter().zip(&self.values).take(rank);
        self.lifts = lifts
            .map(|(raised, value)| (raised - value).max(0.0))
            .collect();
        Ok(())
    }

    /// Whether the first `rank` values are estimated to leave a residual within `tolerance` of the least possible.
    pub(crate) fn settled(&self, rank: usize, tolerance: f64) -> bool {
        let left = self.norm2 - self.values[..rank].iter().sum::<f64>();
        let rise: f64 = self.rises[..rank].iter().sum();
        rank < self.values.len() && relative(left, left - rise) <= tolerance
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
