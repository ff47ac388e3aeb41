//! A checkpoint with channels scaled: what is multiplied, what is divided, and how a rounded weight is seen without it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use half::{bf16, f16};
use xgraft_checkpoint::{Checkpoint, Weight, WeightMatrix};
use xgraft_cpu_gemm::Source;

use super::mapping::Mapping;

/// By what every tensor is multiplied or divided; empty where nothing is scaled.
#[derive(Debug, Default)]
pub(crate) struct ChannelScales {
    /// Input channels of weights, multiplied.
    columns: HashMap<String, Vec<f32>>,
    /// Output channels of weights, divided.
    rows: HashMap<String, Vec<f32>>,
    /// Norms and biases, divided.
    vectors: BTreeMap<String, Vec<f32>>,
}

impl ChannelScales {
    /// Scales the inputs of the mapping's layers.
    pub(crate) fn add(&mut self, source: &Checkpoint, mapping: &Mapping<'_>, scales: &[f32]) {
        for weight in &mapping.balance {
            self.columns.insert(weight.tensor.clone(), scales.to_vec());
        }
        let smooth = mapping.smooth;
        let bias = format!("{}.bias", smooth.module);
        if source.tensor(&bias).is_some() {
            self.vectors.insert(bias, scales.to_vec());
        }
        match smooth.role.is_linear() {
            true => self.rows.insert(smooth.tensor.clone(), scales.to_vec()),
            false => self.vectors.insert(smooth.tensor.clone(), scales.to_vec()),
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether it is a norm or bias that is divided.
    pub(crate) fn divides(&self, weight: &Weight) -> bool {
        self.vectors.contains_key(&weight.tensor)
    }

    /// Last components of the modules whose input channels are scaled.
    pub(crate) fn layers(&self) -> Vec<String> {
        let leaf = |tensor: &String| {
            let module = tensor.rsplit_once('.').map_or("", |(module, _)| module);
            module.rsplit('.').next().unwrap_or_default().to_owned()
        };
        let mut layers: Vec<String> = self.columns.keys().map(leaf).collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    /// A weight, norm or bias with its channels scaled, rounded to its own type once.
    pub(crate) fn apply(&self, weight: &Weight, matrix: WeightMatrix) -> WeightMatrix {
        let columns = self.columns.get(&weight.tensor);
        let rows = self.rows.get(&weight.tensor);
        let vector = self.vectors.get(&weight.tensor);
        if columns.is_none() && rows.is_none() && vector.is_none() {
            return matrix;
        }
        scaled(matrix, |row, col, x| {
            let x = columns.map_or(x, |s| x * s[col]);
            let x = rows.map_or(x, |s| x / s[row]);
            vector.map_or(x, |s| x / s[col])
        })
    }

    /// Some rows of a rounded weight as they count: with the scales taken out again.
    pub(crate) fn restored<'a, S: Source>(
        &'a self,
        weight: &Weight,
        matrix: &'a S,
        first: usize,
    ) -> Restored<'a, S> {
        Restored {
            matrix,
            columns: self.columns.get(&weight.tensor).map(Vec::as_slice),
            rows: self.rows.get(&weight.tensor).map(|s| &s[first..]),
        }
    }
}

/// Every number through `f`, with its row and column, in the matrix's own type; a vector is one row.
pub(super) fn scaled(matrix: WeightMatrix, f: impl Fn(usize, usize, f32) -> f32) -> WeightMatrix {
    fn each<T: Copy>(data: &mut [T], cols: usize, f: impl Fn(usize, usize, T) -> T) {
        for (row, values) in data.chunks_mut(cols.max(1)).enumerate() {
            for (col, x) in values.iter_mut().enumerate() {
                *x = f(row, col, *x);
            }
        }
    }
    let mut matrix = matrix;
    match &mut matrix {
        WeightMatrix::Bf16 { cols, data, .. } => each(data, *cols, |row, col, x: bf16| {
            bf16::from_f32(f(row, col, x.to_f32()))
        }),
        WeightMatrix::F16 { cols, data, .. } => each(data, *cols, |row, col, x: f16| {
            f16::from_f32(f(row, col, x.to_f32()))
        }),
        WeightMatrix::F32(m) => each(&mut m.data, m.cols, f),
        // Only plain numbers are quantized, so there is nothing to scale.
        WeightMatrix::Fp8(_) | WeightMatrix::Grouped(_) => {}
    }
    matrix
}

/// The bytes of a plain matrix, little-endian.
pub(crate) fn plain_bytes(matrix: &WeightMatrix) -> Vec<u8> {
    match matrix {
        WeightMatrix::Bf16 { data, .. } => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        WeightMatrix::F16 { data, .. } => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        other => other
            .to_f32()
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
    }
}

/// A matrix whose columns are divided and rows multiplied by channel scales.
pub(crate) struct Restored<'a, S> {
    matrix: &'a S,
    columns: Option<&'a [f32]>,
    rows: Option<&'a [f32]>,
}

impl<S: Source> Source for Restored<'_, S> {
    fn rows(&self) -> usize {
        self.matrix.rows()
    }

    fn cols(&self) -> usize {
        self.matrix.cols()
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        self.matrix.pack(rows.clone(), cols.clone(), dst, ld);
        for (row, at) in dst.chunks_mut(ld.max(1)).zip(rows) {
            let by_row = self.rows.map_or(1.0, |s| s[at]);
            for (i, x) in row[..cols.len()].iter_mut().enumerate() {
                let by_column = self.columns.map_or(1.0, |s| s[cols.start + i]);
                *x = *x * by_row / by_column;
            }
        }
    }
}
