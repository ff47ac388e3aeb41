//! A LoRA pair as a product of two factors in the shape of its weight.

use xgraft_checkpoint::{Adapter, LoraKind, LoraModule, Weight};
use xgraft_cpu_gemm::{F32, matmul};

use crate::error::{Error, Result};

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
    pub(crate) fn rows(&self, range: std::ops::Range<usize>) -> Vec<f32> {
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
