//! The definition of every product of this crate, one element at a time.
//!
//! An element of a product is a sum over `k`. Its terms are taken in chunks of [`KC`] in ascending order;
//! within a chunk they form one chain of fused multiply-adds that starts at zero; each finished chunk is added to the total.
//! All implementations give these bits, for every shape, thread count and instruction set.

use crate::Source;

/// Terms of a sum that form one chain of fused multiply-adds.
pub const KC: usize = 128;

/// `sum_k left(k) * right(k)` in the order of this module.
pub fn sum(terms: usize, left: impl Fn(usize) -> f32, right: impl Fn(usize) -> f32) -> f32 {
    let mut total = 0.0;
    for start in (0..terms).step_by(KC) {
        let end = terms.min(start + KC);
        total += (start..end).fold(0.0, |chain, k| left(k).mul_add(right(k), chain));
    }
    total
}

/// `out = D P`, the plain way.
///
/// **Shapes** `d` `[rows, cols]`, `p` `[cols, n]`, `out` `[rows, n]`, all row-major.
///
/// # Panics
/// If a length does not fit the shapes.
pub fn matmul<S: Source + ?Sized>(d: &S, p: &[f32], n: usize, out: &mut [f32]) {
    let dense = dense(d);
    assert_eq!(
        (p.len(), out.len()),
        (d.cols() * n, d.rows() * n),
        "lengths of P and of the result"
    );
    for i in 0..d.rows() {
        for j in 0..n {
            out[i * n + j] = sum(d.cols(), |k| dense[i * d.cols() + k], |k| p[k * n + j]);
        }
    }
}

/// `out = Dᵀ Q`, the plain way.
///
/// **Shapes** `d` `[rows, cols]`, `q` `[rows, n]`, `out` `[cols, n]`, all row-major.
///
/// # Panics
/// If a length does not fit the shapes.
pub fn matmul_tn<S: Source + ?Sized>(d: &S, q: &[f32], n: usize, out: &mut [f32]) {
    let dense = dense(d);
    assert_eq!(
        (q.len(), out.len()),
        (d.rows() * n, d.cols() * n),
        "lengths of Q and of the result"
    );
    for i in 0..d.cols() {
        for j in 0..n {
            out[i * n + j] = sum(d.rows(), |k| dense[k * d.cols() + i], |k| q[k * n + j]);
        }
    }
}

/// Frobenius norm squared, summed in f64 from left to right.
pub fn squared_norm<S: Source + ?Sized>(d: &S) -> f64 {
    dense(d).iter().map(|x| f64::from(*x).powi(2)).sum()
}

/// The whole matrix in memory.
fn dense<S: Source + ?Sized>(d: &S) -> Vec<f32> {
    let mut dense = vec![0.0; d.rows() * d.cols()];
    d.pack(0..d.rows(), 0..d.cols(), &mut dense, d.cols());
    dense
}
