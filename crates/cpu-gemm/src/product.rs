//! The products with thin f32 panels.

use crate::arch::Isa;
use crate::left::Layout;
use crate::panel::Right;
use crate::schedule::{Product, Start};
use crate::{F32, Source};

/// `out = D P`.
///
/// **Shapes** `d` `[rows, cols]`, `p` `[cols, n]`, `out` `[rows, n]`, all row-major.
/// The bytes of the result depend neither on the number of threads nor on the processor's instruction set.
///
/// # Panics
/// If a length does not fit the shapes.
pub fn matmul<S: Source + ?Sized>(d: &S, p: &[f32], n: usize, out: &mut [f32]) {
    let p = F32::new(p, d.cols(), n);
    Product::new(d, Layout::Rows, Right::Plain(&p)).run(Isa::detect(), Start::Zero, out);
}

/// `out = out + D P`, or with the sign of `P` changed `out = out - D P`.
///
/// The chunks of the sum are added to what `out` holds.
/// **Shapes** as in [`matmul`].
///
/// # Panics
/// If a length does not fit the shapes.
pub fn matmul_sub<S: Source + ?Sized>(d: &S, p: &[f32], n: usize, out: &mut [f32]) {
    let p = F32::new(p, d.cols(), n);
    Product::new(d, Layout::Rows, Right::Negated(&p)).run(Isa::detect(), Start::Keep, out);
}

/// `out = Dᵀ Q`.
///
/// **Shapes** `d` `[rows, cols]`, `q` `[rows, n]`, `out` `[cols, n]`, all row-major.
/// The bytes of the result depend neither on the number of threads nor on the processor's instruction set.
///
/// # Panics
/// If a length does not fit the shapes.
pub fn matmul_tn<S: Source + ?Sized>(d: &S, q: &[f32], n: usize, out: &mut [f32]) {
    let q = F32::new(q, d.rows(), n);
    Product::new(d, Layout::Cols, Right::Plain(&q)).run(Isa::detect(), Start::Zero, out);
}
