//! Two adapters' updates of one layer.

use xgraft_cpu_gemm::{F32, cross_f64};
use xgraft_low_rank::exact_singular_values;

use crate::error::{Error, Result};
use crate::measures::{Angles, Cosine};
use crate::report::Overlap;
use crate::update::Update;

/// Compares the spaces and the matrices of two updates that are not zero, of one shape.
pub(crate) fn overlap(module: &str, first: &Update, second: &Update) -> Result<Overlap> {
    let between_left = cross_f64(&first.left(), &second.left());
    let between_right = cross_f64(&first.right(), &second.right());
    // ⟨L₁, L₂⟩ = Σᵢⱼ σᵢ τⱼ (u₁ᵢ·u₂ⱼ)(v₁ᵢ·v₂ⱼ)
    let columns = second.rank();
    let inner: f64 = between_left
        .iter()
        .zip(&between_right)
        .enumerate()
        .map(|(at, (left, right))| {
            first.singular_values[at / columns]
                * second.singular_values[at % columns]
                * left
                * right
        })
        .sum();
    let angles = |between: &[f64], dimension: usize| {
        angles(between, (first.rank(), columns), dimension).map_err(Error::low_rank(
            "the product of both adapters' bases",
            module,
        ))
    };
    Ok(Overlap {
        rank: columns,
        left: angles(&between_left, first.rows)?,
        right: angles(&between_right, first.cols)?,
        cosine: Cosine::new(
            inner,
            first.norm2(),
            second.norm2(),
            first.rows * first.cols,
        ),
    })
}

/// From U₁ᵀU₂ `[r₁, r₂]`.
fn angles(
    between: &[f64],
    (r1, r2): (usize, usize),
    dimension: usize,
) -> xgraft_low_rank::Result<Angles> {
    let narrow: Vec<f32> = between.iter().map(|x| *x as f32).collect();
    let cosines = exact_singular_values(&F32::new(&narrow, r1, r2))?;
    // the bases are orthonormal in f32 only
    let cosines: Vec<f64> = cosines.into_iter().map(|x| x.min(1.0)).collect();
    let count = r1.min(r2) as f64;
    Ok(Angles {
        min: cosines.last().copied().unwrap_or(0.0),
        mean: cosines.iter().sum::<f64>() / count,
        max: cosines.first().copied().unwrap_or(0.0),
        overlap: cosines.iter().map(|x| x * x).sum::<f64>() / count,
        chance: r1.max(r2) as f64 / dimension as f64,
    })
}
