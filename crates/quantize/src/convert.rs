//! One weight into a format: codes and scales, and what they cost.

use std::ops::Range;

use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use rayon::prelude::*;
use xgraft_block_scale::{
    GroupRecipe, GroupedMatrix, QuantizedMatrix, Recipe, RoundTrip, Rows, amax_rows, quantize_rows,
    quantize_rows_with_scales, round_trip,
};
use xgraft_checkpoint::{Weight, WeightMatrix};
use xgraft_cpu_gemm::Source;

use crate::error::{Error, Result};
use crate::report::OutputError;
use crate::search::{DeltaSums, Search, merit, rows_of};

/// Rows whose candidates are compared at a time; a multiple of every block's rows.
const STRIP: usize = 256;

/// A weight that is to be quantized.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) weight: &'a Weight,
    pub(crate) matrix: &'a WeightMatrix,
    /// The weight that it was fine-tuned from, where that is known.
    pub(crate) base: Option<&'a WeightMatrix>,
    pub(crate) search: Search,
    /// E[x²] of each input channel, where it is known.
    pub(crate) squares: Option<&'a [f64]>,
}

impl<'a> Job<'a> {
    /// Nothing searched for, nothing compared with.
    pub(crate) fn plain(weight: &'a Weight, matrix: &'a WeightMatrix) -> Self {
        Job {
            weight,
            matrix,
            base: None,
            search: Search::Amax,
            squares: None,
        }
    }
}

impl Job<'_> {
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.matrix.rows(), self.matrix.cols())
    }

    pub(crate) fn failed(&self, source: xgraft_block_scale::Error) -> Error {
        Error::Quantize {
            tensor: self.weight.tensor.clone(),
            source,
        }
    }

    pub(crate) fn data(&self) -> Result<Rows<'_>> {
        Ok(match self.matrix {
            WeightMatrix::Bf16 { data, .. } => Rows::Bf16(data),
            WeightMatrix::F16 { data, .. } => Rows::F16(data),
            WeightMatrix::F32(matrix) => Rows::F32(&matrix.data),
            WeightMatrix::Fp8(_) | WeightMatrix::Grouped(_) => {
                return Err(Error::AlreadyQuantized {
                    dir: self.weight.tensor.clone().into(),
                    layout: "codes".into(),
                });
            }
        })
    }

    /// FP8 codes with scales of blocks.
    pub(crate) fn blocks(&self, recipe: &Recipe) -> Result<QuantizedMatrix> {
        let ((rows, cols), data) = (self.shape(), self.data()?);
        let mut codes = vec![0; data.len()];
        let mut grid = vec![0.0; recipe.block.count(rows, cols)];
        quantize_rows(data, cols, recipe, &mut codes, &mut grid).map_err(|e| self.failed(e))?;
        let plain = QuantizedMatrix::new((rows, cols), recipe.format, recipe.block, codes, grid);
        let mut best = plain.map_err(|e| self.failed(e))?;
        if self.search == Search::Amax {
            return Ok(best);
        }
        let size = recipe.block.cols.size(cols);
        let width = recipe.block.grid(rows, cols).1;
        for factor in self.search.factors().into_iter().skip(1) {
            let mut amax = vec![0.0; best.scales.len()];
            amax_rows(data, cols, &recipe.block, &mut amax).map_err(|e| self.failed(e))?;
            amax.iter_mut().for_each(|amax| *amax *= factor);
            let scales = recipe.scales(&amax, width, data.dtype());
            let scales = scales.map_err(|e| self.failed(e))?;
            let mut codes = vec![0; data.len()];
            quantize_rows_with_scales(data, cols, recipe, &scales, &mut codes);
            let other =
                QuantizedMatrix::new((rows, cols), recipe.format, recipe.block, codes, scales);
            let other = other.map_err(|e| self.failed(e))?;
            let block_rows = recipe.block.rows.size(rows);
            let better = self.better(&best, &other, 0, (block_rows, size));
            for (at, _) in better.iter().enumerate().filter(|(_, better)| **better) {
                let (top, left) = (at / width * block_rows, at % width * size);
                best.scales[at] = other.scales[at];
                for row in top..rows.min(top + block_rows) {
                    let range = row * cols + left..row * cols + cols.min(left + size);
                    best.codes[range.clone()].copy_from_slice(&other.codes[range]);
                }
            }
        }
        Ok(best)
    }

    /// Codes with scales of groups, of some rows.
    pub(crate) fn groups(
        &self,
        recipe: &GroupRecipe,
        range: Range<usize>,
    ) -> Result<GroupedMatrix> {
        let cols = self.matrix.cols();
        let data = self.data()?.part(range.start * cols..range.end * cols);
        let with = |factor| {
            let found = recipe.quantize(data, (range.len(), cols), factor);
            found.map_err(|e| self.failed(e.below_rows_of_groups(range.start)))
        };
        let mut best = with(1.0)?;
        let size = recipe.group.size(cols);
        for factor in self.search.factors().into_iter().skip(1) {
            let other = with(factor)?;
            let better = self.better(&best, &other, range.start, (1, size));
            for (at, _) in better.iter().enumerate().filter(|(_, better)| **better) {
                let range = at * size..(at + 1) * size;
                best.codes[range.clone()].copy_from_slice(&other.codes[range]);
                best.scales[at] = other.scales[at];
                if let (Some(best), Some(other)) = (&mut best.zeros, &other.zeros) {
                    best[at] = other[at];
                }
            }
        }
        Ok(best)
    }

    /// For each block of `height` × `width`, whether a candidate serves it better than the best so far; both are of the rows
    /// from `first` on.
    fn better<S: Source + Sync>(
        &self,
        best: &S,
        other: &S,
        first: usize,
        (height, width): (usize, usize),
    ) -> Vec<bool> {
        let (rows, cols) = (best.rows(), best.cols());
        let strip = height.max(STRIP / height.max(1) * height);
        let starts: Vec<usize> = (0..rows).step_by(strip).collect();
        let strips = starts.into_par_iter().map(|start| {
            let range = start..rows.min(start + strip);
            let of_weight = first + range.start..first + range.end;
            let weights = rows_of(self.matrix, of_weight.clone());
            let base = self.base.map(|base| rows_of(base, of_weight));
            let (old, new) = (rows_of(best, range.clone()), rows_of(other, range.clone()));
            let mut found = Vec::new();
            for top in (0..range.len()).step_by(height) {
                for left in (0..cols).step_by(width) {
                    let cell = |all: &[f32]| {
                        gathered(
                            all,
                            cols,
                            top..range.len().min(top + height),
                            left..cols.min(left + width),
                        )
                    };
                    let (weights, base) = (cell(&weights), base.as_deref().map(cell));
                    let merit = |values: &[f32]| {
                        merit(self.search, &weights, &cell(values), base.as_deref())
                    };
                    found.push(merit(&new) > merit(&old));
                }
            }
            found
        });
        strips.collect::<Vec<_>>().concat()
    }

    /// What some rows of a quantized matrix have lost, which is the rows of the weight from `first` on.
    pub(crate) fn cost<S: Source>(&self, stored: &S, rows: Range<usize>, first: usize) -> Cost {
        let of_weight = first + rows.start..first + rows.end;
        let weights = rows_of(self.matrix, of_weight.clone());
        let values = rows_of(stored, rows);
        let delta = self.base.map(|base| {
            let mut sums = DeltaSums::default();
            let base = rows_of(base, of_weight);
            for ((w, v), b) in weights.iter().zip(&values).zip(&base) {
                sums.add(*w, *v, *b);
            }
            sums
        });
        let output = self
            .squares
            .map(|squares| output(squares, &weights, &values));
        let trip = difference(&weights, &values);
        Cost {
            trip,
            delta,
            output,
        }
    }

    /// What a quantized weight has lost.
    pub(crate) fn cost_of_all<S: Source + Sync>(&self, stored: &S) -> Cost {
        let costs = strips(self.shape()).map(|rows| self.cost(stored, rows, 0));
        Cost::of_all(costs.collect())
    }

    /// The same for FP8, with the count of saturated elements.
    pub(crate) fn cost_of_blocks(&self, stored: &QuantizedMatrix) -> Result<Cost> {
        let more = self.base.is_some() || self.squares.is_some();
        let more = more.then(|| self.cost_of_all(stored));
        Ok(Cost {
            trip: round_trip(self.data()?, stored),
            delta: more.and_then(|cost| cost.delta),
            output: more.and_then(|cost| cost.output),
        })
    }
}

/// What quantizing rows has cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) trip: RoundTrip,
    /// Where the weight's base is known.
    pub(crate) delta: Option<DeltaSums>,
    /// Where the weight's activations are known.
    pub(crate) output: Option<OutputError>,
}

impl Cost {
    /// Of strips, in their order.
    pub(crate) fn of_all(strips: Vec<Self>) -> Self {
        let mut all = Cost {
            trip: RoundTrip::default(),
            delta: None,
            output: None,
        };
        for Cost {
            trip,
            delta,
            output,
        } in strips
        {
            all.trip = all.trip.merge(trip);
            match (&mut all.delta, delta) {
                (Some(all), Some(delta)) => all.merge(delta),
                (all, delta) => *all = all.or(delta),
            }
            if let Some(output) = output {
                let all = all.output.get_or_insert_default();
                all.error2 += output.error2;
                all.norm2 += output.norm2;
            }
        }
        all
    }
}

/// A rectangle of rows of `cols` elements.
fn gathered(all: &[f32], cols: usize, rows: Range<usize>, columns: Range<usize>) -> Vec<f32> {
    let rows = rows.map(|row| &all[row * cols..][columns.clone()]);
    rows.flatten().copied().collect()
}

/// The rows of a matrix in strips that stay in the cache, which do not depend on the number of threads.
pub(crate) fn strips(
    (rows, cols): (usize, usize),
) -> impl IndexedParallelIterator<Item = Range<usize>> {
    let strip = strip_rows(cols);
    (0..rows.div_ceil(strip))
        .into_par_iter()
        .map(move |i| i * strip..rows.min((i + 1) * strip))
}

fn strip_rows(cols: usize) -> usize {
    (1_usize << 17).div_ceil(cols.max(1))
}

/// Some rows of a source, rounded to BF16.
///
/// **Shapes** `out` `[rows.len(), cols]`.
pub(crate) fn bf16_rows<S: Source + Sync>(source: &S, rows: Range<usize>, out: &mut [bf16]) {
    let shape = (rows.len(), source.cols());
    let width = strip_rows(shape.1) * shape.1;
    let parts = out.par_chunks_mut(width.max(1)).zip(strips(shape));
    parts.for_each(|(out, part)| {
        let values = rows_of(source, rows.start + part.start..rows.start + part.end);
        out.convert_from_f32_slice(&values);
    });
}

/// The values of a source as BF16 bytes.
pub(crate) fn bf16_bytes<S: Source + Sync>(source: &S) -> Vec<u8> {
    let mut values = vec![bf16::ZERO; source.rows() * source.cols()];
    bf16_rows(source, 0..source.rows(), &mut values);
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Of rows of weights and what they are stored as, by E[x²] of each column.
fn output(squares: &[f64], weights: &[f32], values: &[f32]) -> OutputError {
    let cols = squares.len().max(1);
    let mut sums = OutputError::default();
    for (weights, values) in weights.chunks(cols).zip(values.chunks(cols)) {
        for ((w, v), square) in weights.iter().zip(values).zip(squares) {
            let (w, v) = (f64::from(*w), f64::from(*v));
            sums.error2 += square * (v - w) * (v - w);
            sums.norm2 += square * w * w;
        }
    }
    sums
}

/// Of weights and what they are stored as. Sums have eight lanes, so that they do not wait for each other.
fn difference(weights: &[f32], values: &[f32]) -> RoundTrip {
    const LANES: usize = 8;
    let (mut norm2, mut error2, mut most) = ([0.0; LANES], [0.0; LANES], [0.0_f32; LANES]);
    let mut add = |weights: &[f32], values: &[f32]| {
        for (i, (w, v)) in weights.iter().zip(values).enumerate() {
            norm2[i] += f64::from(*w) * f64::from(*w);
            let error = f64::from(*w) - f64::from(*v);
            error2[i] += error * error;
            most[i] = most[i].max((w - v).abs());
        }
    };
    let (whole, rest) = weights.as_chunks::<LANES>();
    let (of_whole, of_rest) = values.as_chunks::<LANES>();
    for (weights, values) in whole.iter().zip(of_whole) {
        add(weights, values);
    }
    add(rest, of_rest);
    RoundTrip {
        norm2: norm2.iter().sum(),
        error2: error2.iter().sum(),
        max_abs_error: most.into_iter().fold(0.0, f32::max),
        elements: weights.len(),
        ..RoundTrip::default()
    }
}
