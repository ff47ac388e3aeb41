//! The Frobenius norm.

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
