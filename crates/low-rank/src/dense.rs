//! Small dense factorizations in f64.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Auto, Col, Mat, MatRef, Par, Spec};

use crate::Error;

/// Eigenvalues of a symmetric matrix, descending, and the eigenvectors that belong to them.
#[derive(Debug)]
pub(crate) struct Eigen {
    pub(crate) values: Vec<f64>,
    /// One eigenvector a column, in the ascending order of their eigenvalues.
    vectors: Mat<f64>,
}

impl Eigen {
    /// **Shapes** `matrix` is `[n, n]`, symmetric.
    pub(crate) fn new(matrix: &[f64], n: usize) -> Result<Self, Error> {
        let mut vectors = Mat::zeros(n, n);
        let values = decompose(matrix, n, Some(&mut vectors))?;
        Ok(Self { values, vectors })
    }

    /// Element `i` of the eigenvector that belongs to value `k`.
    pub(crate) fn vector(&self, i: usize, k: usize) -> f64 {
        self.vectors[(i, self.values.len() - 1 - k)]
    }

    /// The first `r` eigenvectors as the columns of a row-major f32 matrix `[n, r]`.
    pub(crate) fn leading(&self, r: usize) -> Vec<f32> {
        let n = self.values.len();
        (0..n)
            .flat_map(|i| (0..r).map(move |k| self.vector(i, k) as f32))
            .collect()
    }
}

/// A singular value decomposition `U diag(values) Vᵀ`, thin.
#[derive(Debug)]
pub(crate) struct Svd {
    pub(crate) values: Vec<f64>,
    /// Row-major `[m, n]`.
    pub(crate) u: Vec<f64>,
    /// Row-major `[n, n]`.
    pub(crate) v: Vec<f64>,
}

impl Svd {
    /// **Shapes** `matrix` is row-major `[m, n]` with `m >= n`.
    pub(crate) fn new(matrix: &[f64], m: usize, n: usize) -> Result<Self, Error> {
        let spec = Spec::new(Auto::<f64>::auto());
        let thin = ComputeSvdVectors::Thin;
        let (mut u, mut v) = (Mat::<f64>::zeros(m, n), Mat::<f64>::zeros(n, n));
        let mut values = Col::<f64>::zeros(n);
        let mut memory = MemBuffer::new(svd_scratch::<f64>(m, n, thin, thin, Par::Seq, spec));
        svd(
            MatRef::from_row_major_slice(matrix, m, n),
            values.as_mut().as_diagonal_mut(),
            Some(u.as_mut()),
            Some(v.as_mut()),
            Par::Seq,
            MemStack::new(&mut memory),
            spec,
        )
        .map_err(|_| Error::NoConvergence { order: n })?;
        let row_major = |mat: &Mat<f64>| {
            (0..mat.nrows())
                .flat_map(|i| (0..mat.ncols()).map(move |j| mat[(i, j)]))
                .collect()
        };
        Ok(Self {
            values: values.iter().copied().collect(),
            u: row_major(&u),
            v: row_major(&v),
        })
    }
}

/// The product of two small row-major matrices, `[m, k]` and `[k, n]`.
pub(crate) fn multiply(a: &[f64], b: &[f64], k: usize, n: usize) -> Vec<f64> {
    let mut out = vec![0.0; a.len() / k.max(1) * n];
    for (out, a) in out.chunks_exact_mut(n.max(1)).zip(a.chunks_exact(k.max(1))) {
        for (a, b) in a.iter().zip(b.chunks_exact(n.max(1))) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out += a * b);
        }
    }
    out
}

/// The transpose of a row-major matrix with `cols` columns.
pub(crate) fn transpose(matrix: &[f64], cols: usize) -> Vec<f64> {
    (0..cols)
        .flat_map(|j| matrix.iter().skip(j).step_by(cols).copied())
        .collect()
}

/// Rounds to f32.
pub(crate) fn narrow(matrix: &[f64]) -> Vec<f32> {
    matrix.iter().map(|x| *x as f32).collect()
}

/// Eigenvalues of a symmetric matrix, descending.
pub(crate) fn eigenvalues(matrix: &[f64], n: usize) -> Result<Vec<f64>, Error> {
    decompose(matrix, n, None)
}

/// Runs on one thread: the bytes of the result must not depend on how many there are.
fn decompose(matrix: &[f64], n: usize, vectors: Option<&mut Mat<f64>>) -> Result<Vec<f64>, Error> {
    let wanted = if vectors.is_some() {
        ComputeEigenvectors::Yes
    } else {
        ComputeEigenvectors::No
    };
    let spec = Spec::new(Auto::<f64>::auto());
    let mut values = Col::<f64>::zeros(n);
    let mut memory = MemBuffer::new(self_adjoint_evd_scratch::<f64>(n, wanted, Par::Seq, spec));
    self_adjoint_evd(
        MatRef::from_row_major_slice(matrix, n, n).transpose(),
        values.as_mut().as_diagonal_mut(),
        vectors.map(|v| v.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        spec,
    )
    .map_err(|_| Error::NoConvergence { order: n })?;
    let mut values: Vec<f64> = values.iter().copied().collect();
    values.reverse();
    Ok(values)
}
