//! The Frobenius norm and inner product.

use rayon::prelude::*;

use crate::Source;

/// Columns that are packed at a time.
const STRIP: usize = 1024;

/// Independent partial sums, so that the loop vectorizes in the same order everywhere.
const LANES: usize = 16;

/// Squared Frobenius norm, in f64.
///
/// Each row is summed on its own in strips and lanes of fixed size, then the rows from top to bottom:
/// the bytes of the result do not depend on the number of threads.
/// A NaN or infinite element gives a NaN or infinite result.
///
/// ```
/// let d = xgraft_cpu_gemm::F32::new(&[1.0, 2.0, 2.0, 4.0], 2, 2);
/// assert_eq!(xgraft_cpu_gemm::squared_norm(&d), 25.0);
/// ```
#[must_use]
pub fn squared_norm<S: Source + ?Sized>(d: &S) -> f64 {
    let rows: Vec<f64> = (0..d.rows())
        .into_par_iter()
        .map(|row| squared_row_norm(d, row))
        .collect();
    rows.iter().sum()
}

/// Squared norm of one row.
fn squared_row_norm<S: Source + ?Sized>(d: &S, row: usize) -> f64 {
    let mut strip = [0.0_f32; STRIP];
    let mut lanes = [0.0_f64; LANES];
    for start in (0..d.cols()).step_by(STRIP) {
        let end = d.cols().min(start + STRIP);
        d.pack(row..row + 1, start..end, &mut strip, STRIP);
        strip[end - start..].fill(0.0);
        for some in strip.chunks_exact(LANES) {
            for (lane, x) in lanes.iter_mut().zip(some) {
                *lane += f64::from(*x) * f64::from(*x);
            }
        }
    }
    lanes.iter().sum()
}

/// `[‖A‖², ⟨A, B⟩, ‖B‖²]`: what two matrices of one shape are to each other as vectors, in f64.
///
/// One pass over both. The order of the sums is that of [`squared_norm`], so the bytes do not depend on the number of threads.
///
/// ```
/// use xgraft_cpu_gemm::{F32, inner_products};
/// let (a, b) = (F32::new(&[1.0, 2.0], 1, 2), F32::new(&[3.0, -1.0], 1, 2));
/// assert_eq!(inner_products(&a, &b), [5.0, 1.0, 10.0]);
/// ```
///
/// # Panics
/// If the shapes differ.
#[must_use]
pub fn inner_products<A: Source + ?Sized, B: Source + ?Sized>(a: &A, b: &B) -> [f64; 3] {
    let (left, right) = ((a.rows(), a.cols()), (b.rows(), b.cols()));
    assert_eq!(
        left, right,
        "an inner product needs two matrices of one shape"
    );
    let rows: Vec<[f64; 3]> = (0..a.rows())
        .into_par_iter()
        .map(|row| row_products(a, b, row))
        .collect();
    [0, 1, 2].map(|i| rows.iter().map(|row| row[i]).sum())
}

/// The three products of one row.
fn row_products<A: Source + ?Sized, B: Source + ?Sized>(a: &A, b: &B, row: usize) -> [f64; 3] {
    let (mut of_a, mut of_b) = ([0.0_f32; STRIP], [0.0_f32; STRIP]);
    let mut lanes = [[0.0_f64; LANES]; 3];
    for start in (0..a.cols()).step_by(STRIP) {
        let end = a.cols().min(start + STRIP);
        a.pack(row..row + 1, start..end, &mut of_a, STRIP);
        b.pack(row..row + 1, start..end, &mut of_b, STRIP);
        of_a[end - start..].fill(0.0);
        of_b[end - start..].fill(0.0);
        let some = of_a.chunks_exact(LANES).zip(of_b.chunks_exact(LANES));
        for (of_a, of_b) in some {
            for i in 0..LANES {
                let (x, y) = (f64::from(of_a[i]), f64::from(of_b[i]));
                lanes[0][i] += x * x;
                lanes[1][i] += x * y;
                lanes[2][i] += y * y;
            }
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}
