//! The result.

use xgraft_cpu_gemm::Source;

use crate::excess::{Excess, relative};
use crate::residual2;

/// The leading singular triplets of a matrix `D`, with what is known of their error.
///
/// **Shapes** `u` `[rows, r]`, `v` `[cols, r]`, row-major.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Factors {
    /// Rows of `D`.
    pub rows: usize,
    /// Columns of `D`.
    pub cols: usize,
    /// Left singular vectors, one a column.
    pub u: Vec<f32>,
    /// Singular values, descending.
    pub singular_values: Vec<f64>,
    /// Right singular vectors, one a column.
    pub v: Vec<f32>,
    /// All singular values of `D` as seen through the basis, descending, at least as many as triplets.
    /// Each is at most that of `D`.
    pub ritz: Vec<f64>,
    /// `‖D‖_F²`.
    pub norm2: f64,
    /// Dimension of the basis.
    pub basis: usize,
    /// Products of `D` with a panel that were computed.
    pub products: usize,
    /// What is known beyond that.
    pub(crate) knowledge: Knowledge,
}

/// What is known of a factorization besides its numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knowledge {
    /// `‖D - U S Vᵀ‖_F²`, where it was measured because the difference of `norm2` and the captured part is mostly rounding.
    pub(crate) measured2: Option<f64>,
    /// For each Ritz value, by how much its square is estimated to lie below that of the singular value of `D`.
    pub(crate) rises: Vec<f64>,
    /// For some of the first Ritz values, by how much their squares can lie below at most.
    pub(crate) lifts: Vec<f64>,
}

/// Share of `‖D‖_F` below which a difference of f32 matrices is rounding.
pub(crate) const RESOLUTION: f64 = 1e-6;

/// Share of `‖D‖_F²` by which the captured part may be off, because the basis is orthonormal in f32 only.
pub(crate) const DRIFT: f64 = 3e-7;

/// Bounds above this are too wide to be of use.
const USEFUL: f64 = 1e-3;

impl Factors {
    /// Number of triplets.
    ///
    /// Smaller than asked for where the matrix has no more: singular values below `1e-6` of the largest are rounding in f32.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.singular_values.len()
    }

    /// What the first `r` triplets keep of `norm2`: the sum of their squared singular values.
    #[must_use]
    pub fn captured2(&self, r: usize) -> f64 {
        self.singular_values.iter().take(r).map(|s| s * s).sum()
    }

    /// What the first `r` triplets leave: `‖D - U_r S_r V_rᵀ‖_F²`.
    ///
    /// The long factor is the image of the short one, so this is `‖D‖² - ‖U_rᵀ D‖²` exactly. Where that is below
    /// a thousandth of `‖D‖²`, and rounding would show, the difference itself was formed and measured.
    #[must_use]
    pub fn residual2(&self, r: usize) -> f64 {
        match self.knowledge.measured2 {
            Some(rest) => {
                rest + self
                    .singular_values
                    .iter()
                    .skip(r)
                    .map(|s| s * s)
                    .sum::<f64>()
            }
            None => (self.norm2 - self.captured2(r)).max(0.0),
        }
    }

    /// Keeps the first `r` triplets.
    pub fn truncate(&mut self, r: usize) {
        let (from, to) = (self.rank(), r.min(self.rank()));
        if self.knowledge.measured2.is_some() {
            self.knowledge.measured2 = Some(self.residual2(to));
        }
        let keep = |data: &mut Vec<f32>| {
            *data = data
                .chunks_exact(from.max(1))
                .flat_map(|row| &row[..to])
                .copied()
                .collect();
        };
        keep(&mut self.u);
        keep(&mut self.v);
        self.singular_values.truncate(to);
    }

    /// How far the first `r` triplets are from the best approximation of rank `r`: the bound if it is of use, else the estimate.
    #[must_use]
    pub fn optimum(&self, r: usize) -> Excess {
        let at_most = self.bound(r);
        if at_most <= USEFUL {
            Excess::Certified { at_most }
        } else {
            Excess::Estimated {
                about: self.estimate(r),
            }
        }
    }

    /// A bound on the excess of the first `r` triplets over the optimum, which holds but may be of no use, or infinite.
    ///
    /// It is the better one of two. The optimum leaves at least the Ritz values behind the first `r`, which is of use where the basis
    /// holds nearly all of the matrix. And where the squared singular value `r` is above all that the basis leaves out,
    /// the residuals of the Ritz vectors and that gap bound by how much the first `r` can rise.
    /// An optimum below `1e-6 ‖D‖_F`, which f32 cannot tell from zero, counts as that.
    #[must_use]
    pub fn bound(&self, r: usize) -> f64 {
        let (left, error) = (self.residual2(r), self.error2(r));
        let floor2 = self.norm2 * RESOLUTION * RESOLUTION;
        if left <= 4.0 * floor2 {
            return 0.0;
        }
        let behind = self.ritz.iter().skip(r).map(|s| s * s).sum::<f64>().sqrt();
        let behind = (behind - floor2.sqrt()).max(0.0).powi(2);
        let lifts = self
            .knowledge
            .lifts
            .get(..r)
            .map_or(f64::INFINITY, |l| l.iter().sum());
        relative(left + error, behind.max(left - error - lifts))
    }

    /// An estimate of the excess of the first `r` triplets over the optimum.
    ///
    /// From the residuals of the Ritz vectors, by perturbation theory to second order.
    /// On decaying, flat and clustered spectra it is within a factor of 3 of the truth.
    #[must_use]
    pub fn estimate(&self, r: usize) -> f64 {
        let left = self.residual2(r);
        let rise: f64 = self.knowledge.rises.iter().take(r).sum();
        let floor2 = self.norm2 * RESOLUTION * RESOLUTION;
        if left <= floor2 {
            0.0
        } else {
            relative(left, (left - rise).max(floor2))
        }
    }

    /// How wrong `residual2` may be.
    fn error2(&self, r: usize) -> f64 {
        let floor = RESOLUTION * self.norm2.sqrt();
        match self.knowledge.measured2 {
            Some(_) => floor * (2.0 * self.residual2(r).sqrt() + floor),
            None => DRIFT * self.norm2,
        }
    }

    /// `‖D - U S Vᵀ‖_F²` from the factors as they are now and the matrix.
    ///
    /// Agrees with [`residual2`](Self::residual2) of all triplets unless a factor was spoiled.
    ///
    /// # Panics
    /// If `d` has another shape.
    #[must_use]
    pub fn measure<S: Source + ?Sized>(&self, d: &S) -> f64 {
        let scaled: Vec<f32> = match self.rank() {
            0 => Vec::new(),
            r => self
                .u
                .chunks_exact(r)
                .flat_map(|row| row.iter().zip(&self.singular_values))
                .map(|(u, s)| (f64::from(*u) * s) as f32)
                .collect(),
        };
        residual2(d, &scaled, &self.v, self.rank())
    }
}
