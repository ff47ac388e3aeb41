//! The residual of given factors, computed from the matrix itself.

use rayon::prelude::*;
use xgraft_cpu_gemm::{F32, Source, matmul_sub};

/// Rows and columns of a tile of the difference.
const TILE: (usize, usize) = (512, 1024);

/// Rows that one task packs or sums up.
const ROWS: usize = 64;

/// `‖D - L Rᵀ‖_F²`, with the difference formed element by element, a tile at a time.
///
/// No use is made of how the factors came about, so this also holds for factors that were rounded, scaled or spoiled.
/// **Shapes** `left` `[rows, r]`, `right` `[cols, r]`, row-major.
/// The products are those of f32 arithmetic: about `1e-7 ‖D‖_F` of the difference is rounding.
///
/// # Panics
/// If a length does not fit the shapes.
///
/// ```
/// let d = xgraft_cpu_gemm::F32::new(&[3.0, 6.0, 4.0, 8.0], 2, 2); // (3, 4)ᵀ (1, 2)
/// assert_eq!(xgraft_low_rank::residual2(&d, &[3.0, 4.0], &[1.0, 2.0], 1), 0.0);
/// assert_eq!(xgraft_low_rank::residual2(&d, &[3.0, 4.0], &[1.0, 0.0], 1), 100.0);
/// ```
#[must_use]
pub fn residual2<S: Source + ?Sized>(d: &S, left: &[f32], right: &[f32], r: usize) -> f64 {
    let (rows, cols) = (d.rows(), d.cols());
    assert_eq!(
        (left.len(), right.len()),
        (rows * r, cols * r),
        "lengths of the factors"
    );
    let mut tile = vec![0.0; rows.min(TILE.0) * cols.min(TILE.1)];
    let mut total = 0.0;
    for first_col in (0..cols).step_by(TILE.1) {
        let width = TILE.1.min(cols - first_col);
        let right = transpose(&right[first_col * r..(first_col + width) * r], r);
        for first_row in (0..rows).step_by(TILE.0) {
            let height = TILE.0.min(rows - first_row);
            let tile = &mut tile[..height * width];
            tile.par_chunks_mut(ROWS * width)
                .enumerate()
                .for_each(|(i, part)| {
                    let from = first_row + i * ROWS;
                    let rows = from..from + part.len() / width;
                    d.pack(rows, first_col..first_col + width, part, width);
                });
            let left = F32::new(&left[first_row * r..(first_row + height) * r], height, r);
            matmul_sub(&left, &right, width, tile);
            total += squared(tile, ROWS * width);
        }
    }
    total
}

/// Sum of squares in chunks of fixed size, one after the other.
pub(crate) fn squared(values: &[f32], chunk: usize) -> f64 {
    let square = |x: &f32| f64::from(*x) * f64::from(*x);
    let parts: Vec<f64> = values
        .par_chunks(chunk)
        .map(|part| part.iter().map(square).sum())
        .collect();
    parts.iter().sum()
}

/// `[n, r]` to `[r, n]`.
fn transpose(matrix: &[f32], r: usize) -> Vec<f32> {
    (0..r)
        .flat_map(|k| matrix.iter().skip(k).step_by(r).copied())
        .collect()
}
