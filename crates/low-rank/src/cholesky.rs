//! Cholesky factorization with pivots: which columns of a block are independent, and the matrix that makes them orthonormal.

/// The part of a Gram matrix `G` that has full rank to working precision.
///
/// With `kept` columns chosen by pivots, `G[kept, kept] = Rᵀ R`, and a matrix whose Gram matrix is `G` becomes orthonormal
/// when its kept columns are multiplied by `R⁻¹`.
#[derive(Debug)]
pub(crate) struct PivotedCholesky {
    order: Vec<usize>,
    /// Upper triangular, row-major `[n, n]`, of which the first `rank` rows and columns count.
    r: Vec<f64>,
    n: usize,
    pub(crate) rank: usize,
}

impl PivotedCholesky {
    /// Factorizes a symmetric positive semidefinite `[n, n]` matrix; stops when no pivot is above `least`.
    pub(crate) fn new(gram: &[f64], n: usize, least: f64) -> Self {
        let mut a = gram.to_vec();
        let mut order: Vec<usize> = (0..n).collect();
        let mut r = vec![0.0; n * n];
        let mut rank = 0;
        while rank < n {
            let j = rank;
            let best = (j..n).fold(j, |best, i| {
                if a[i * n + i] > a[best * n + best] {
                    i
                } else {
                    best
                }
            });
            let pivot = a[best * n + best];
            if pivot.is_nan() || pivot <= least {
                break;
            }
            swap_symmetric(&mut a, n, j, best);
            order.swap(j, best);
            (0..j).for_each(|row| r.swap(row * n + j, row * n + best));
            let root = pivot.sqrt();
            for l in j..n {
                r[j * n + l] = a[j * n + l] / root;
            }
            for i in j + 1..n {
                let (factor, row) = (r[j * n + i], &r[j * n..(j + 1) * n]);
                for (a, r) in a[i * n + j + 1..(i + 1) * n].iter_mut().zip(&row[j + 1..]) {
                    *a -= factor * r;
                }
            }
            rank += 1;
        }
        Self { order, r, n, rank }
    }

    /// Largest and smallest pivot, as a share of the largest.
    pub(crate) fn smallest_share(&self) -> f64 {
        let pivot = |j: usize| self.r[j * self.n + j].powi(2);
        if self.rank == 0 {
            0.0
        } else {
            pivot(self.rank - 1) / pivot(0)
        }
    }

    /// The smallest pivot.
    pub(crate) fn smallest(&self) -> f64 {
        self.rank
            .checked_sub(1)
            .map_or(0.0, |j| self.r[j * self.n + j].powi(2))
    }

    /// The row-major `[rank, n]` matrix `R` with its columns back in their places: that of the kept columns is the whole Gram matrix,
    /// up to what was left out.
    pub(crate) fn factor(&self) -> Vec<f64> {
        let mut placed = vec![0.0; self.rank * self.n];
        for (to, from) in placed
            .chunks_exact_mut(self.n)
            .zip(self.r.chunks_exact(self.n))
        {
            self.order
                .iter()
                .zip(from)
                .for_each(|(place, x)| to[*place] = *x);
        }
        placed
    }

    /// The row-major `[n, rank]` matrix that picks the kept columns and multiplies them by `R⁻¹`.
    pub(crate) fn orthonormalizer(&self) -> Vec<f64> {
        let (n, k) = (self.n, self.rank);
        // Row i of the inverse, from the bottom up: R[i,i] X[i,:] = I[i,:] - sum over l > i of R[i,l] X[l,:].
        let mut inverse = vec![0.0; k * k];
        for i in (0..k).rev() {
            let (head, below) = inverse.split_at_mut((i + 1) * k);
            let row = &mut head[i * k..];
            row[i] = 1.0;
            for (l, solved) in (i + 1..k).zip(below.chunks_exact(k)) {
                let factor = self.r[i * n + l];
                for (x, solved) in row[l..].iter_mut().zip(&solved[l..]) {
                    *x -= factor * solved;
                }
            }
            let pivot = self.r[i * n + i];
            row[i..].iter_mut().for_each(|x| *x /= pivot);
        }
        let mut picked = vec![0.0; n * k];
        for (row, inverse) in self.order.iter().zip(inverse.chunks_exact(k.max(1))) {
            picked[row * k..(row + 1) * k].copy_from_slice(inverse);
        }
        picked
    }
}

/// Swaps rows and columns `i` and `j` of a symmetric matrix of which both triangles are kept.
fn swap_symmetric(a: &mut [f64], n: usize, i: usize, j: usize) {
    if i == j {
        return;
    }
    (0..n).for_each(|l| a.swap(i * n + l, j * n + l));
    (0..n).for_each(|l| a.swap(l * n + i, l * n + j));
}
