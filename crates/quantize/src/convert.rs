//! One weight into a format: codes and scales, and what they cost.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;
use xgraft_block_scale::{
    GroupRecipe, GroupedMatrix, QuantizedMatrix, Recipe, RoundTrip, Rows, amax_rows, quantize_rows,
    quantize_rows_with_scales, round_trip,
};
use xgraft_checkpoint::{Weight, WeightMatrix};
use xgraft_cpu_gemm::Source;

use crate::error::{Error, Result};
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
}

impl Job<'_> {
    fn shape(&self) -> (usize, usize) {
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
            let better = self.better(&best, &other, block_rows, size);
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

    /// Codes with scales of groups.
    pub(crate) fn groups(&self, recipe: &GroupRecipe) -> Result<GroupedMatrix> {
        let ((rows, cols), data) = (self.shape(), self.data()?);
        let with = |factor| {
            let found = recipe.quantize(data, (rows, cols), factor);
            found.map_err(|e| self.failed(e))
        };
        let mut best = with(1.0)?;
        let size = recipe.group.size(cols);
        for factor in self.search.factors().into_iter().skip(1) {
            let other = with(factor)?;
            let better = self.better(&best, &other, 1, size);
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

    /// For each block, whether a candidate serves it better than the best so far.
    fn better<S: Source + Sync>(
        &self,
        best: &S,
        other: &S,
        height: usize,
        width: usize,
    ) -> Vec<bool> {
        let (rows, cols) = self.shape();
        let strip = height.max(STRIP / height.max(1) * height);
        let starts: Vec<usize> = (0..rows).step_by(strip).collect();
        let strips = starts.into_par_iter().map(|start| {
            let range = start..rows.min(start + strip);
            let weights = rows_of(self.matrix, range.clone());
            let base = self.base.map(|base| rows_of(base, range.clone()));
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

    /// What a quantized weight has lost.
    pub(crate) fn cost<S: Source + Sync>(&self, stored: &S) -> (RoundTrip, Option<DeltaSums>) {
        let rows = self.matrix.rows();
        let starts: Vec<usize> = (0..rows).step_by(STRIP).collect();
        let strips = starts.into_par_iter().map(|start| {
            let range = start..rows.min(start + STRIP);
            let (weights, values) = (
                rows_of(self.matrix, range.clone()),
                rows_of(stored, range.clone()),
            );
            let mut trip = RoundTrip::default();
            for (weight, value) in weights.iter().zip(&values) {
                add(&mut trip, *weight, *value);
            }
            let delta = self.base.map(|base| {
                let mut sums = DeltaSums::default();
                let base = rows_of(base, range);
                for ((w, v), b) in weights.iter().zip(&values).zip(&base) {
                    sums.add(*w, *v, *b);
                }
                sums
            });
            (trip, delta)
        });
        let mut all = (
            RoundTrip::default(),
            self.base.map(|_| DeltaSums::default()),
        );
        for (trip, delta) in strips.collect::<Vec<_>>() {
            all.0 = all.0.merge(trip);
            if let (Some(all), Some(delta)) = (&mut all.1, delta) {
                all.merge(delta);
            }
        }
        all
    }

    /// The same for FP8, with the count of saturated elements.
    pub(crate) fn cost_of_blocks(
        &self,
        stored: &QuantizedMatrix,
    ) -> Result<(RoundTrip, Option<DeltaSums>)> {
        let trip = round_trip(self.data()?, stored);
        Ok((trip, self.base.and_then(|_| self.cost(stored).1)))
    }
}

/// A rectangle of rows of `cols` elements.
fn gathered(all: &[f32], cols: usize, rows: Range<usize>, columns: Range<usize>) -> Vec<f32> {
    let rows = rows.map(|row| &all[row * cols..][columns.clone()]);
    rows.flatten().copied().collect()
}

/// The values of a source as BF16 bytes.
pub(crate) fn bf16_bytes<S: Source + Sync>(source: &S) -> Vec<u8> {
    let (rows, cols) = (source.rows(), source.cols());
    let mut bytes = vec![0; rows * cols * 2];
    bytes
        .par_chunks_mut((cols * 2).max(1) * STRIP)
        .enumerate()
        .for_each(|(i, bytes)| {
            let start = i * STRIP;
            let values = rows_of(source, start..rows.min(start + STRIP));
            for (to, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *to = bf16::from_f32(value).to_le_bytes();
            }
        });
    bytes
}

/// What rounding the values of a source to BF16 has cost.
pub(crate) fn rounding<S: Source + Sync>(source: &S, bytes: &[u8]) -> RoundTrip {
    let (rows, cols) = (source.rows(), source.cols());
    let strips: Vec<RoundTrip> = bytes
        .par_chunks((cols * 2).max(1) * STRIP)
        .enumerate()
        .map(|(i, bytes)| {
            let start = i * STRIP;
            let values = rows_of(source, start..rows.min(start + STRIP));
            let stored = bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| bf16::from_le_bytes(*b).to_f32());
            let mut trip = RoundTrip::default();
            for (value, stored) in values.iter().zip(stored) {
                add(&mut trip, *value, stored);
            }
            trip
        })
        .collect();
    strips
        .into_iter()
        .fold(RoundTrip::default(), RoundTrip::merge)
}

fn add(trip: &mut RoundTrip, weight: f32, value: f32) {
    trip.norm2 += f64::from(weight).powi(2);
    trip.error2 += (f64::from(weight) - f64::from(value)).powi(2);
    trip.max_abs_error = trip.max_abs_error.max((weight - value).abs());
    trip.elements += 1;
}
