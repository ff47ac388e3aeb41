//! Logical weights: a quantized linear's codes and scales are one weight.

use xgraft_block_scale::{BlockShape, Format, ScaleDtype};

use super::packing::StoredGroups;
use super::role::Role;
use crate::format::dtype::Dtype;

/// One tensor of a shard, as its header describes it; no bytes of it are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape, row-major; empty for a scalar.
    pub shape: Vec<usize>,
    /// Which of the directory's shards holds it.
    pub shard: usize,
    /// Where its bytes start, from the start of the shard's file.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

impl TensorInfo {
    /// `(rows, cols)` of the tensor as a matrix: a vector is one row, a scalar 1 by 1,
    /// and further dimensions are folded into the columns.
    pub fn matrix_shape(&self) -> (usize, usize) {
        matrix_shape(&self.shape)
    }
}

pub(crate) fn matrix_shape(shape: &[usize]) -> (usize, usize) {
    match *shape {
        [] => (1, 1),
        [cols] => (1, cols),
        [rows, ref rest @ ..] => (rows, rest.iter().product()),
    }
}

/// A weight of the model, whatever the number of tensors that store it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// The module that owns it, such as `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// The tensor that holds its values or codes, such as `model.layers.0.self_attn.q_proj.weight`.
    pub tensor: String,
    /// What it does in the model.
    pub role: Role,
    /// Its shape; `[out_features, in_features]` for a linear layer.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub stored: Stored,
}

/// How a weight's numbers are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// One tensor of this type.
    Plain(Dtype),
    /// FP8 codes with one scale for each block; value = code × scale.
    Fp8 {
        /// The code.
        format: Format,
        /// Which elements one scale governs.
        block: BlockShape,
        /// The type in which the scales are stored.
        scale: ScaleDtype,
        /// The tensor that holds the scales.
        scale_tensor: String,
    },
    /// Integer codes with a scale, and perhaps a zero point, for each group of a row.
    Grouped(StoredGroups),
}

impl Weight {
    /// `(rows, cols)` as a matrix: a vector is one row.
    pub fn matrix_shape(&self) -> (usize, usize) {
        matrix_shape(&self.shape)
    }

    /// The name of the tensor that holds it in an unquantized checkpoint: `….weight` however its codes are packed.
    pub fn plain_name(&self) -> String {
        match &self.stored {
            Stored::Grouped(_) => format!("{}.weight", self.module),
            Stored::Plain(_) | Stored::Fp8 { .. } => self.tensor.clone(),
        }
    }

    /// The decoder layer it belongs to: the number after the component `layers` (or `h`, `blocks`).
    pub fn layer(&self) -> Option<usize> {
        let mut components = self.module.split('.');
        components.find(|c| matches!(*c, "layers" | "h" | "blocks"))?;
        components.next()?.parse().ok()
    }

    /// The tensor that holds its scales, if its numbers are codes.
    pub fn scale_tensor(&self) -> Option<&str> {
        self.part_tensors().next()
    }

    /// The tensors that belong to its codes, the scales first.
    pub fn part_tensors(&self) -> impl Iterator<Item = &str> {
        let (fp8, grouped) = match &self.stored {
            Stored::Fp8 { scale_tensor, .. } => (Some(scale_tensor.as_str()), None),
            Stored::Grouped(stored) => (None, Some(stored.parts.names())),
            Stored::Plain(_) => (None, None),
        };
        fp8.into_iter().chain(grouped.into_iter().flatten())
    }

    /// Whether it is no weight but the fixed scale of a layer's input, which only that layer quantized has a use for.
    pub fn is_input_scale(&self) -> bool {
        self.role == Role::Other && self.tensor.ends_with(".input_scale")
    }

    /// Whether its numbers are codes.
    pub fn is_quantized(&self) -> bool {
        !matches!(self.stored, Stored::Plain(_))
    }
}
