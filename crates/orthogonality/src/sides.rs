//! Whether the two checkpoints of a noise are what they are said to be: an original, and its quantized copy.
//!
//! A copy that holds codes shows it in its headers. A bridge, dequantized to BF16, does not; but its numbers lie on a grid, so few
//! of them differ in a run of neighbours that share a scale, where those of an original nearly all do.

use std::collections::HashSet;

use xgraft_checkpoint::{Checkpoint, Quantization, WeightMatrix};
use xgraft_cpu_gemm::Source as _;
use xgraft_results::Finding;

use crate::error::{Error, Result};
use crate::noise::{Noise, Weights};
use crate::plan::Layer;

/// Neighbours that share a scale in most formats.
const RUN: usize = 128;
/// Rows of a weight that are looked at.
const ROWS: usize = 64;
/// Weights that are looked at until one differs: the first layers are often kept.
const LAYERS: usize = 4;
/// An original with less than this share of its copy's different numbers is the copy. FP8 leaves 0.4, INT8 0.7, four bits 0.1.
const SWAPPED: f64 = 0.8;
/// A copy with more than this share of its original's different numbers shows no grid.
const NO_GRID: f64 = 0.95;

/// Refuses one directory twice and pairs the wrong way round; a finding says what cannot be told.
pub(crate) fn check(noise: &Noise, layers: &[Layer<'_>]) -> Result<Option<Finding>> {
    let (original, quantized) = (&noise.original, &noise.quantized);
    let real = |checkpoint: &Checkpoint| checkpoint.dir().canonicalize().ok();
    if real(original).is_some_and(|dir| real(quantized) == Some(dir)) {
        return Err(Error::SameDirectory {
            dir: original.dir().to_owned(),
        });
    }
    match [original, quantized].map(stores_codes) {
        [true, false] => Err(swapped(
            noise,
            "holds quantized codes, and the second does not".to_owned(),
        )),
        [true, true] => Ok(Some(Finding::info(
            "original-is-quantized",
            original.dir().display().to_string(),
            "the original holds quantized codes itself: N is what the second rounding added to them",
        ))),
        [false, true] => Ok(None),
        [false, false] => on_a_grid(noise, layers),
    }
}

fn stores_codes(checkpoint: &Checkpoint) -> bool {
    !matches!(checkpoint.quantization(), Quantization::None)
}

fn swapped(noise: &Noise, why: String) -> Error {
    Error::Swapped {
        original: noise.original.dir().to_owned(),
        quantized: noise.quantized.dir().to_owned(),
        why,
    }
}

/// Tells two checkpoints of plain numbers apart.
fn on_a_grid(noise: &Noise, layers: &[Layer<'_>]) -> Result<Option<Finding>> {
    for layer in layers.iter().take(LAYERS) {
        let (weights, _) = Weights::load(noise, &layer.module.module)?;
        let (original, quantized) = (sample(&weights.original), sample(&weights.quantized));
        if original == quantized {
            continue;
        }
        let cols = weights.original.cols();
        let [of_original, of_quantized] = [&original, &quantized].map(|s| different(s, cols));
        let shares = format!(
            "{:.0} % and {:.0} % different numbers in runs of {RUN} of {}",
            100.0 * of_original,
            100.0 * of_quantized,
            layer.module.module
        );
        if of_original < SWAPPED * of_quantized {
            let why = format!("lies on a coarser grid than the second ({shares})");
            return Err(swapped(noise, why));
        }
        return Ok((of_quantized > NO_GRID * of_original).then(|| no_grid(noise, &shares)));
    }
    Ok(None)
}

fn no_grid(noise: &Noise, shares: &str) -> Finding {
    Finding::warning(
        "no-sign-of-quantization",
        noise.quantized.dir().display().to_string(),
        format!(
            "expected a quantized copy of {}, or its bridge; found neither codes nor a grid ({shares}): what is called noise below is \
             the difference of two checkpoints, whatever it is",
            noise.original.dir().display()
        ),
    )
    .hint("give the quantized checkpoint after the `=` of --noise; of AWQ's bridges with channel scales this is said too")
}

/// The first rows.
fn sample(matrix: &WeightMatrix) -> Vec<f32> {
    let (rows, cols) = (matrix.rows().min(ROWS), matrix.cols());
    let mut values = vec![0.0; rows * cols];
    matrix.pack(0..rows, 0..cols, &mut values, cols);
    values
}

/// The share of the numbers of a run that differ from each other, mean over the runs.
fn different(values: &[f32], cols: usize) -> f64 {
    let runs = values.chunks(cols).flat_map(|row| row.chunks(RUN));
    let (mut distinct, mut all) = (0, 0);
    for run in runs {
        let bits: HashSet<u32> = run.iter().map(|x| x.to_bits()).collect();
        distinct += bits.len();
        all += run.len();
    }
    f64::from(distinct as u32) / f64::from(all.max(1) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_by_runs_that_end_with_the_row() {
        let grid: Vec<f32> = (0..300).map(|i| (i % 4) as f32).collect();
        assert!((different(&grid, 150) - 16.0 / 300.0).abs() < 1e-12);
        let free: Vec<f32> = (0..300).map(|i| i as f32).collect();
        assert!((different(&free, 150) - 1.0).abs() < 1e-12);
        assert!(different(&[], 1).abs() < 1e-12);
    }
}
