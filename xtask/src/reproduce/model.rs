//! What a model weighs: from its headers where it lies on disk, else from its published shapes.

use super::headers;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// The published shapes of a recipe's models.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Published {
    pub(super) hidden: u64,
    pub(super) intermediate: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) head_dim: u64,
    pub(super) layers: u64,
    pub(super) vocab: u64,
    /// 2 for BF16, 4 for F32.
    pub(super) base_bytes_per_weight: u64,
    pub(super) tuned_bytes_per_weight: u64,
}

/// A model's weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// [out, in] of every linear layer.
    pub(super) linears: Vec<(u64, u64)>,
    /// Bytes of all tensors.
    pub(super) bytes: u64,
    /// Bytes of the linear layers among them.
    pub(super) linear_bytes: u64,
    /// Whether the files were seen.
    pub(super) seen: bool,
}

impl Model {
    /// From the headers of a directory.
    pub(super) fn of_dir(dir: &Path) -> Result<Self> {
        let tensors = headers::tensors(dir)?;
        let linear = |tensor: &&headers::Tensor| {
            let name = &tensor.name;
            let outside = name.contains("embed") || name.contains("lm_head");
            tensor.shape.len() == 2 && name.ends_with(".weight") && !outside
        };
        let linears: Vec<_> = tensors.iter().filter(linear).collect();
        Ok(Self {
            linears: linears.iter().map(|t| (t.shape[0], t.shape[1])).collect(),
            bytes: tensors.iter().map(|t| t.bytes).sum(),
            linear_bytes: linears.iter().map(|t| t.bytes).sum(),
            seen: true,
        })
    }

    /// From published shapes.
    pub(super) fn of_shapes(shapes: &Published, bytes_per_weight: u64) -> Self {
        let linears = shapes.linears();
        let weights: u64 = linears.iter().map(|(rows, cols)| rows * cols).sum();
        let norms = shapes.layers * 2 * (shapes.hidden + shapes.head_dim) + shapes.hidden;
        let vocabulary = 2 * shapes.vocab * shapes.hidden;
        Self {
            linears,
            bytes: (weights + norms + vocabulary) * bytes_per_weight,
            linear_bytes: weights * bytes_per_weight,
            seen: false,
        }
    }

    /// From the directory if it is there, else from the published shapes.
    pub(super) fn find(
        dir: &Path,
        published: Option<&Published>,
        bytes_per_weight: impl Fn(&Published) -> u64,
    ) -> Result<Self> {
        if dir.join("config.json").is_file() {
            return Self::of_dir(dir);
        }
        let shapes = published.with_context(|| {
            format!(
                "{} is not there, and the recipe has no [published] shapes",
                dir.display()
            )
        })?;
        Ok(Self::of_shapes(shapes, bytes_per_weight(shapes)))
    }

    /// The same model with its linears in FP8 with 128x128 blocks and F32 scales.
    pub(super) fn in_fp8(&self) -> Self {
        let blocks = |(rows, cols): &(u64, u64)| rows.div_ceil(128) * cols.div_ceil(128);
        let codes: u64 = self.linears.iter().map(|(rows, cols)| rows * cols).sum();
        let scales: u64 = self.linears.iter().map(blocks).sum();
        let linear_bytes = codes + 4 * scales;
        Self {
            linears: self.linears.clone(),
            bytes: self.bytes - self.linear_bytes + linear_bytes,
            linear_bytes,
            seen: self.seen,
        }
    }

    /// Bytes of an adapter of this rank in BF16.
    pub(super) fn adapter_bytes(&self, rank: u32) -> u64 {
        let pair =
            |(rows, cols): &(u64, u64)| 2 * (rows + cols) * u64::from(rank).min(*rows).min(*cols);
        self.linears.iter().map(pair).sum()
    }

    /// Floating-point operations of the factorizations at this rank: see [`factorization`].
    pub(super) fn factorization_flops(&self, rank: u32) -> f64 {
        self.linears
            .iter()
            .map(|(rows, cols)| factorization(*rows as f64, *cols as f64, f64::from(rank)))
            .sum()
    }

    /// Floating-point operations of all products B A.
    pub(super) fn product_flops(&self, rank: u32) -> f64 {
        let product = |(rows, cols): &(u64, u64)| 2.0 * (rows * cols) as f64 * f64::from(rank);
        self.linears.iter().map(product).sum()
    }

    /// Floating-point operations of all exact spectra: the Gram matrix of the shorter side and its eigenvalues, in f64, which
    /// is taken to be half as fast.
    pub(super) fn exact_flops(&self) -> f64 {
        let exact = |(rows, cols): &(u64, u64)| {
            let (short, long) = ((*rows).min(*cols) as f64, (*rows).max(*cols) as f64);
            2.0 * (short * short * long + 1.5 * short.powi(3))
        };
        self.linears.iter().map(exact).sum()
    }
}

impl Published {
    fn linears(&self) -> Vec<(u64, u64)> {
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let block = [
            (queries, self.hidden),
            (keys, self.hidden),
            (keys, self.hidden),
            (self.hidden, queries),
            (self.intermediate, self.hidden),
            (self.intermediate, self.hidden),
            (self.hidden, self.intermediate),
        ];
        (0..self.layers).flat_map(|_| block).collect()
    }
}

/// One truncated SVD by block Krylov: a basis of about twice the rank, three passes over the matrix for every column of it, and
/// the orthogonalization of both sides.
fn factorization(rows: f64, cols: f64, rank: f64) -> f64 {
    let basis = (2.0 * rank).min(rows).min(cols);
    3.0 * 2.0 * rows * cols * basis + 4.0 * (rows + cols) * basis * basis
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn qwen3_32b_has_its_published_bytes() {
        let shapes = Published {
            hidden: 5120,
            intermediate: 25600,
            heads: 64,
            kv_heads: 8,
            head_dim: 128,
            layers: 64,
            vocab: 151_936,
            base_bytes_per_weight: 2,
            tuned_bytes_per_weight: 2,
        };
        let model = Model::of_shapes(&shapes, 2);
        assert_eq!(model.bytes, 2 * 32_762_123_264);
        assert_eq!(model.linears.len(), 448);
        assert!(model.in_fp8().bytes < 35_000_000_000);
        assert_eq!(
            model.adapter_bytes(256),
            448 / 7 * 512 * (2 * 13312 + 2 * 6144 + 3 * 30720)
        );
    }

    #[test]
    fn headers_and_shapes_agree_on_the_fixture() {
        let dir = workspace::root().join("fixtures/tiny-qwen3/base");
        let model = Model::of_dir(&dir).expect("reads");
        assert_eq!(model.linears.len() % 7, 0);
        assert!(model.linear_bytes < model.bytes);
        assert!(model.seen);
    }
}
