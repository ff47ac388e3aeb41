//! The adapter's update of one weight, L = s·B·A, as its thin SVD.

use std::ops::ControlFlow;

use xgraft_block_scale::Matrix;
use xgraft_checkpoint::{Adapter, LoraModule};
use xgraft_cpu_gemm::{F32, Side, Source, cross_f64, gram_f64, matmul, matmul_tn};
use xgraft_low_rank::{Config, Factors, Stop, truncated_svd};

use crate::error::{Error, Result};

/// The factors of one linear layer's update as the adapter stores them: L = scale · b · a.
#[derive(Debug)]
pub(crate) struct Pair {
    /// B `[out, r]`.
    b: Matrix,
    /// A `[r, in]`.
    a: Matrix,
    scale: f64,
}

impl Pair {
    pub(crate) fn load(adapter: &Adapter, module: &LoraModule) -> Result<Self> {
        Ok(Self {
            b: adapter.load_b(module)?,
            a: adapter.load_a(module)?,
            scale: module.scale,
        })
    }

    /// ‖L‖², from the r × r Gram matrices of both factors.
    fn norm2(&self) -> f64 {
        let (bb, aa) = (gram_f64(&self.b, Side::Cols), gram_f64(&self.a, Side::Rows));
        self.scale * self.scale * dot(&bb, &aa)
    }

    /// ⟨N, L⟩ and ‖L‖² for any matrix N of the weight's shape: one product with a panel of r columns.
    pub(crate) fn inner<S: Source + ?Sized>(&self, noise: &S) -> (f64, f64) {
        let right = self.a.transposed();
        let mut image = vec![0.0; noise.rows() * right.cols];
        matmul(noise, &right.data, right.cols, &mut image);
        let inner: f64 = image
            .iter()
            .zip(&self.b.data)
            .map(|(x, b)| f64::from(*x) * f64::from(*b))
            .sum();
        (self.scale * inner, self.norm2())
    }
}

/// Σ xᵢyᵢ in one fixed order.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// L = U·diag(σ)·Vᵀ with orthonormal columns in U and V.
///
/// **Shapes** `u` `[rows, rank]`, `v` `[cols, rank]`, row-major. The rank is that of the matrix in f32:
/// directions below 1e-6 of the largest are left out, so it may be less than the pair's.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) u: Vec<f32>,
    pub(crate) singular_values: Vec<f64>,
    pub(crate) v: Vec<f32>,
}

impl Update {
    /// Decomposes a pair by three small SVDs: of B, of A, and of what stands between their bases. L itself is never formed.
    pub(crate) fn of(pair: &Pair, module: &str) -> Result<Self> {
        let failed = || Error::low_rank("the adapter's pair", module);
        let (m, r, n) = (pair.b.rows, pair.b.cols, pair.a.cols);
        let left = whole(&F32::new(&pair.b.data, m, r)).map_err(failed())?;
        let right = whole(&F32::new(&pair.a.data, r, n)).map_err(failed())?;
        let (p, q) = (left.rank(), right.rank());
        if p == 0 || q == 0 || pair.scale == 0.0 {
            return Ok(Self::zero(m, n));
        }
        let between = cross_f64(&F32::new(&left.v, r, p), &F32::new(&right.u, r, q));
        // The largest element near 1: the products of two factors may leave the range of f32.
        let unit = left.singular_values[0] * right.singular_values[0];
        let core: Vec<f32> = between
            .iter()
            .enumerate()
            .map(|(at, x)| {
                let sizes = left.singular_values[at / q] * right.singular_values[at % q];
                (x * (sizes / unit)) as f32
            })
            .collect();
        let core = whole(&F32::new(&core, p, q)).map_err(failed())?;
        let rank = core.rank();
        let mut update = Self::zero(m, n);
        update.u = vec![0.0; m * rank];
        update.v = vec![0.0; n * rank];
        // a negative scale turns the sign of one side
        let sign = pair.scale.signum() as f32;
        let turned: Vec<f32> = core.u.iter().map(|x| sign * x).collect();
        matmul(&F32::new(&left.u, m, p), &turned, rank, &mut update.u);
        matmul(&F32::new(&right.v, n, q), &core.v, rank, &mut update.v);
        update.singular_values = core
            .singular_values
            .iter()
            .map(|s| s * unit * pair.scale.abs())
            .collect();
        Ok(update)
    }

    fn zero(rows: usize, cols: usize) -> Self {
        Self {
            rows,
            cols,
            u: Vec::new(),
            singular_values: Vec::new(),
            v: Vec::new(),
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.singular_values.len()
    }

    /// ‖L‖².
    pub(crate) fn norm2(&self) -> f64 {
        dot(&self.singular_values, &self.singular_values)
    }

    /// U as a matrix.
    pub(crate) fn left(&self) -> F32<'_> {
        F32::new(&self.u, self.rows, self.rank())
    }

    /// V as a matrix.
    pub(crate) fn right(&self) -> F32<'_> {
        F32::new(&self.v, self.cols, self.rank())
    }

    /// Nᵀ·U, `[cols, rank]`.
    pub(crate) fn rows_inside<S: Source + ?Sized>(&self, noise: &S) -> Vec<f32> {
        let mut out = vec![0.0; self.cols * self.rank()];
        matmul_tn(noise, &self.u, self.rank(), &mut out);
        out
    }

    /// N·V, `[rows, rank]`.
    pub(crate) fn cols_inside<S: Source + ?Sized>(&self, noise: &S) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.rank()];
        matmul(noise, &self.v, self.rank(), &mut out);
        out
    }

    /// ⟨N, L⟩ from Nᵀ·U, where the rows of V may stand in another `order`.
    pub(crate) fn inner(&self, rows_inside: &[f32], order: impl Iterator<Item = usize>) -> f64 {
        let rank = self.rank();
        let mut along = vec![0.0_f64; rank];
        for (image, from) in rows_inside.chunks_exact(rank).zip(order) {
            let v = &self.v[from * rank..][..rank];
            for ((sum, x), v) in along.iter_mut().zip(image).zip(v) {
                *sum += f64::from(*x) * f64::from(*v);
            }
        }
        dot(&along, &self.singular_values)
    }
}

/// All singular triplets of a matrix with one short side.
fn whole(d: &F32<'_>) -> xgraft_low_rank::Result<Factors> {
    let config = Config {
        stop: Stop::Rank(d.rows().min(d.cols()).max(1)),
        ..Config::default()
    };
    truncated_svd(d, &config, &|_| ControlFlow::Continue(()))
}
