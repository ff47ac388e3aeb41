//! An orthonormal basis that grows by blocks.

use xgraft_cpu_gemm::{Side, gram, gram_f64, matmul_sub};

use crate::cholesky::PivotedCholesky;
use crate::dense::narrow;
use crate::panel::{Panel, Panels};

/// A column that shrank to this share of the longest column when the basis was taken out of it is rounding error.
pub(crate) const NOISE: f64 = 4.0 * f32::EPSILON as f64;

/// Makes the columns of `block` orthonormal, and orthogonal to `basis`. Columns that depend on the rest are left out.
/// Nothing if the block holds something that is not finite.
///
/// Block Gram-Schmidt, each time followed by a Cholesky QR, until a pass changes next to nothing: two passes as a rule,
/// one more where the block is badly conditioned. The first Gram matrix is summed in f64 and factorized with pivots,
/// so that neither a condition number of 1e7 nor a dependent column is a special case.
///
/// **Source** Yamazaki, Tomov, Dongarra 2015 (Cholesky QR with a wide Gram matrix); Barlow, Smoktunowicz 2013 (Gram-Schmidt by
/// blocks with reorthogonalization).
pub(crate) fn orthonormalize(mut block: Panel, basis: &Panels) -> Option<Panel> {
    const MOST_PASSES: usize = 4;
    let longest = longest_column2(&block);
    if !longest.is_finite() {
        return None;
    }
    let mut least = longest * NOISE * NOISE;
    for pass in 0..MOST_PASSES {
        project_out(&mut block, basis);
        let n = block.width;
        let gram = if pass == 0 {
            gram_f64(&block.source(), Side::Cols)
        } else {
            gram(&block.source(), Side::Cols)
                .into_iter()
                .map(f64::from)
                .collect()
        };
        let factor = PivotedCholesky::new(&gram, n, least);
        if factor.rank == 0 {
            return Some(Panel::zeros(block.rows, 0));
        }
        block = block.times(&narrow(&factor.orthonormalizer()), factor.rank);
        // From now on the columns are about as long as 1. What loses nearly all of that to the basis was noise.
        least = 1e-3;
        if pass > 0 && factor.smallest() > 0.5 {
            break;
        }
    }
    Some(block)
}

/// Takes the span of the basis out of the columns of a block.
pub(crate) fn project_out(block: &mut Panel, basis: &Panels) {
    if basis.width() > 0 && block.width > 0 {
        let inside = basis.transposed_times(block);
        matmul_sub(basis, &inside, block.width, &mut block.data);
    }
}

/// Squared length of the longest column.
fn longest_column2(block: &Panel) -> f64 {
    let mut lengths = vec![0.0_f64; block.width];
    for row in block.data.chunks_exact(block.width.max(1)) {
        for (length, x) in lengths.iter_mut().zip(row) {
            *length += f64::from(*x) * f64::from(*x);
        }
    }
    lengths.into_iter().fold(0.0, f64::max)
}
