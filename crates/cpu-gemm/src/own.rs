//! Products with itself, and products summed in f64.

use crate::Source;
use crate::arch::Isa;
use crate::element::Element;
use crate::left::Layout;
use crate::panel::Right;
use crate::schedule::{Product, Start};

/// `Aᵀ B`, with f64 products and sums.
///
/// **Shapes** `a` `[rows, m]`, `b` `[rows, n]`, the result `[m, n]`, all row-major.
/// The products of f32 elements are exact in f64. The order of the sum is that of [`reference`](crate::reference).
///
/// # Panics
/// If the numbers of rows differ.
#[must_use]
pub fn cross_f64<A: Source + ?Sized, B: Source + ?Sized>(a: &A, b: &B) -> Vec<f64> {
    let mut out = vec![0.0; a.cols() * b.cols()];
    Product::new(a, Layout::Cols, Right::Plain(b)).run(Isa::detect(), Start::Keep, &mut out);
    out
}

/// Which product with its own transpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `D Dᵀ`, `[rows, rows]`.
    Rows,
    /// `Dᵀ D`, `[cols, cols]`.
    Cols,
}

/// `D Dᵀ` or `Dᵀ D`, with f64 products and sums; symmetric, both triangles filled.
///
/// ```
/// use xgraft_cpu_gemm::{F32, Side, gram_f64};
/// let d = F32::new(&[1.0, 2.0, 3.0, 4.0], 2, 2);
/// assert_eq!(gram_f64(&d, Side::Rows), [5.0, 11.0, 11.0, 25.0]);
/// assert_eq!(gram_f64(&d, Side::Cols), [10.0, 14.0, 14.0, 20.0]);
/// ```
#[must_use]
pub fn gram_f64<S: Source + ?Sized>(d: &S, side: Side) -> Vec<f64> {
    own_product(d, side)
}

/// `D Dᵀ` or `Dᵀ D` in f32; symmetric, both triangles filled.
#[must_use]
pub fn gram<S: Source + ?Sized>(d: &S, side: Side) -> Vec<f32> {
    own_product(d, side)
}

/// The product with its own transpose.
fn own_product<T: Element, S: Source + ?Sized>(d: &S, side: Side) -> Vec<T> {
    let (n, layout, right) = match side {
        Side::Rows => (d.rows(), Layout::Rows, Right::Transposed(d)),
        Side::Cols => (d.cols(), Layout::Cols, Right::Plain(d)),
    };
    let mut out = vec![T::default(); n * n];
    let product = Product::new(d, layout, right).lower();
    product.run(Isa::detect(), Start::Keep, &mut out);
    mirror(&mut out, n);
    out
}

/// Copies the lower triangle to the upper one, in blocks that fit the cache.
fn mirror<T: Copy>(matrix: &mut [T], n: usize) {
    const BLOCK: usize = 32;
    for rows in (0..n).step_by(BLOCK) {
        for cols in (0..=rows).step_by(BLOCK) {
            for i in rows..n.min(rows + BLOCK) {
                for j in cols..i.min(cols + BLOCK) {
                    matrix[j * n + i] = matrix[i * n + j];
                }
            }
        }
    }
}
