//! What an adapter does to one weight: a LoRA pair is added to it, a tensor saved whole takes its place.

use std::ops::Range;

use xgraft_checkpoint::{Adapter, AdapterTensor, LoraKind, LoraModule, Weight, WeightMatrix};
use xgraft_cpu_gemm::{F32, Source, matmul};

use crate::error::{Error, Result};

/// A weight's change, where it stands in the adapter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stands<'a> {
    Pair(&'a LoraModule),
    Whole(&'a AdapterTensor),
}

/// A weight's change.
#[derive(Debug)]
pub(crate) enum Change {
    Add(Pair),
    Replace(WeightMatrix),
}

impl Change {
    pub(crate) fn load(adapter: &Adapter, stands: Stands<'_>, weight: &Weight) -> Result<Self> {
        match stands {
            Stands::Pair(module) => Ok(Self::Add(Pair::load(adapter, module, weight)?)),
            Stands::Whole(tensor) => {
                let (new, _) = adapter.load(&tensor.info)?;
                if tensor.info.shape == weight.shape {
                    Ok(Self::Replace(new))
                } else {
                    Err(Error::WholeShape {
                        tensor: tensor.info.name.clone(),
                        expected: weight.shape.clone(),
                        found: tensor.info.shape.clone(),
                    })
                }
            }
        }
    }

    /// Rank of a pair.
    pub(crate) fn rank(&self) -> Option<usize> {
        match self {
            Self::Add(pair) => Some(pair.rank),
            Self::Replace(_) => None,
        }
    }

    /// Changes `weights`, the rows in `range`; gives what was added.
    pub(crate) fn apply(&self, range: Range<usize>, weights: &mut [f32]) -> Vec<f32> {
        match self {
            Self::Add(pair) => {
                let update = pair.rows(range);
                weights.iter_mut().zip(&update).for_each(|(w, u)| *w += u);
                update
            }
            Self::Replace(new) => {
                let mut update = vec![0.0; weights.len()];
                new.pack(range, 0..new.cols(), &mut update, new.cols());
                for (w, u) in weights.iter_mut().zip(&mut update) {
                    (*w, *u) = (*u, *u - *w);
                }
                update
            }
        }
    }
}

/// s·left·right, [rows, r] · [r, cols].
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) rank: usize,
    left: Vec<f32>,
    right: Vec<f32>,
    cols: usize,
}

impl Pair {
    /// Loads a pair with its scale folded into the left factor.
    pub(crate) fn load(adapter: &Adapter, module: &LoraModule, weight: &Weight) -> Result<Self> {
        let (a, b) = (adapter.load_a(module)?, adapter.load_b(module)?);
        // an embedding's ΔW [vocab, hidden] is (B A)ᵀ
        let (mut left, right) = if module.kind == LoraKind::Embedding {
            (a.transposed(), b.transposed())
        } else {
            (b, a)
        };
        let (rows, cols) = weight.matrix_shape();
        if (left.rows, right.cols) != (rows, cols) {
            return Err(Error::Shape {
                module: module.module.clone(),
                expected: [rows, cols],
                found: [left.rows, right.cols],
            });
        }
        for x in &mut left.data {
            *x = (f64::from(*x) * module.scale) as f32;
        }
        if !left.data.iter().chain(&right.data).all(|x| x.is_finite()) {
            return Err(Error::NotFinite {
                module: module.module.clone(),
            });
        }
        Ok(Self {
            rank: left.cols,
            left: left.data,
            right: right.data,
            cols,
        })
    }

    /// Rows of the product, `[range.len(), cols]`.
    pub(crate) fn rows(&self, range: Range<usize>) -> Vec<f32> {
        let mut out = vec![0.0; range.len() * self.cols];
        let left = &self.left[range.start * self.rank..range.end * self.rank];
        matmul(
            &F32::new(left, range.len(), self.rank),
            &self.right,
            self.cols,
            &mut out,
        );
        out
    }
}
