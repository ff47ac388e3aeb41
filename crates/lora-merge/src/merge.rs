//! The merge of a whole checkpoint.

use std::collections::HashMap;

use half::{bf16, f16};
use serde_json::{Value, json};
use xgraft_adapter_sanitize::plain_lora;
use xgraft_block_scale::{Arithmetic, Extent, QuantizedMatrix, Recipe, quantize_rows};
use xgraft_checkpoint::{
    Adapter, Checkpoint, Converted, DEFAULT_SHARD_BYTES, Dtype, Fate, Identity as _, LoraModule,
    OutputDir, PlannedTensor, Rewrite, RewriteEvent, Role, Stored, Weight, WeightMatrix, rewrite,
};
use xgraft_cpu_gemm::Source;
use xgraft_results::Input;

use crate::error::{Error, Result};
use crate::pair::Pair;
use crate::report::{ModuleReport, Report};

/// Rows that are decoded, added to and stored at a time; a multiple of every usual block.
const STRIP: usize = 512;

/// A merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The most bytes of tensors in one file.
    pub max_shard_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_shard_bytes: DEFAULT_SHARD_BYTES,
        }
    }
}

/// A finished merge.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// `report.json`.
    pub report: Report,
    /// Every weight of the base that was read, with its digest.
    pub inputs: Vec<Input>,
}

/// What makes earlier work of an interrupted run usable.
#[must_use]
pub fn fingerprint(base: &Checkpoint, adapter: &Adapter, config: &Config) -> Value {
    json!({
        "verb": "merge",
        "version": env!("CARGO_PKG_VERSION"),
        "config": { "max_shard_bytes": config.max_shard_bytes },
        "base": base.identity_json(),
        "adapter": adapter.identity_json(),
    })
}

/// Folds `adapter` into `base` and writes the result into the open directory `out`; the caller
/// commits it. Every weight keeps the format in which the base stores it.
///
/// # Errors
/// An adapter that does not fit the base or holds tensors that are no LoRA pairs, weights that are
/// broken, or a full disk; and whatever `on_event` returns.
pub fn merge(
    base: &Checkpoint,
    adapter: &Adapter,
    config: &Config,
    out: &OutputDir,
    on_event: &dyn Fn(RewriteEvent<'_>) -> Result<()>,
) -> Result<Merged> {
    plain_lora(adapter)?;
    let pairs = check(base, adapter)?;
    let done = rewrite(
        base,
        out,
        &Rewrite {
            fate: &|weight| match pairs.get(weight.tensor.as_str()) {
                Some(_) => Fate::Replace(planned(base, weight)),
                None => Fate::Keep,
            },
            convert: &|weight, matrix| {
                let pair = Pair::load(adapter, pairs[weight.tensor.as_str()], weight)?;
                convert(weight, &matrix, &pair)
            },
            on_event,
            config: &base
                .config()
                .with_quantization(base.config().raw().get("quantization_config")),
            max_shard_bytes: config.max_shard_bytes,
        },
    )?;
    Ok(Merged {
        report: Report {
            schema: "xgraft.merge-report/1".into(),
            bytes_out: done.iter().map(|d| d.bytes_out).sum(),
            modules: done.iter().filter_map(|d| d.note.clone()).collect(),
        },
        inputs: done
            .into_iter()
            .map(|d| Input {
                role: "base".into(),
                tensor: Some(d.tensor),
                file: d.file,
                blake3: d.blake3,
                bytes: d.bytes_in,
            })
            .collect(),
    })
}

/// The pairs of the adapter by the tensor that they change.
fn check<'a>(base: &Checkpoint, adapter: &'a Adapter) -> Result<HashMap<String, &'a LoraModule>> {
    if let Some(other) = adapter.others().next() {
        return Err(Error::NotAPair {
            tensor: other.info.name.clone(),
        });
    }
    let mut pairs = HashMap::new();
    for module in adapter.modules() {
        let unknown = || Error::UnknownModule {
            module: module.module.clone(),
            base: base.dir().to_owned(),
        };
        let tied = base.tied_embeddings();
        if tied
            && matches!(
                module.module.rsplit('.').next(),
                Some("lm_head" | "embed_tokens")
            )
        {
            return Err(Error::Tied {
                module: module.module.clone(),
                base: base.dir().to_owned(),
            });
        }
        let weight = base.weight(&module.module).ok_or_else(unknown)?;
        if weight.shape.len() != 2 || matches!(weight.role, Role::Norm(_) | Role::Bias) {
            return Err(unknown());
        }
        pairs.insert(weight.tensor.clone(), module);
    }
    Ok(pairs)
}

/// The tensors of a weight, unchanged in name, type and shape.
fn planned(base: &Checkpoint, weight: &Weight) -> Vec<PlannedTensor> {
    let stored = base.stored_tensors(weight).unwrap_or_default();
    stored
        .into_iter()
        .map(|t| PlannedTensor::new(t.name.clone(), t.dtype, t.shape.clone()))
        .collect()
}

/// What a strip of the merge gives, and what its rounding cost.
#[derive(Debug, Default)]
struct Sums {
    update2: f64,
    merged2: f64,
    rounding2: f64,
}

impl Sums {
    fn add(&mut self, update: &[f32], exact: &[f32], stored: impl Iterator<Item = f32>) {
        for ((u, x), s) in update.iter().zip(exact).zip(stored) {
            self.update2 += f64::from(*u).powi(2);
            self.merged2 += f64::from(*x).powi(2);
            self.rounding2 += (f64::from(s) - f64::from(*x)).powi(2);
        }
    }

    fn report(&self, weight: &Weight, rank: usize) -> ModuleReport {
        ModuleReport {
            module: weight.module.clone(),
            rank,
            update_norm: self.update2.sqrt(),
            merged_norm: self.merged2.sqrt(),
            rounding: if self.update2 > 0.0 {
                (self.rounding2 / self.update2).sqrt()
            } else {
                0.0
            },
        }
    }
}

fn convert(weight: &Weight, matrix: &WeightMatrix, pair: &Pair) -> Result<Converted<ModuleReport>> {
    let mut sums = Sums::default();
    let tensors = match &weight.stored {
        Stored::Plain(dtype) => vec![plain(*dtype, matrix, pair, &mut sums)],
        Stored::Fp8 {
            format,
            block,
            scale,
            ..
        } => {
            let recipe = Recipe {
                format: *format,
                block: *block,
                scale: *scale,
                arithmetic: Arithmetic::F32,
            };
            quantized(weight, &recipe, matrix, pair, &mut sums)?
        }
    };
    Ok(Converted {
        tensors,
        note: sums.report(weight, pair.rank),
    })
}

/// Each strip of `step` rows, with the update and the exact sum.
fn strips(
    matrix: &WeightMatrix,
    pair: &Pair,
    step: usize,
    mut with: impl FnMut(&[f32], &[f32]) -> Result<()>,
) -> Result<()> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    for start in (0..rows).step_by(step) {
        let range = start..rows.min(start + step);
        let update = pair.rows(range.clone());
        let mut exact = vec![0.0; update.len()];
        matrix.pack(range, 0..cols, &mut exact, cols);
        for (x, u) in exact.iter_mut().zip(&update) {
            *x += u;
        }
        with(&update, &exact)?;
    }
    Ok(())
}

fn plain(dtype: Dtype, matrix: &WeightMatrix, pair: &Pair, sums: &mut Sums) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(matrix.rows() * matrix.cols() * dtype.bytes());
    let stored = strips(matrix, pair, STRIP, |update, exact| {
        match dtype {
            Dtype::Bf16 => {
                let values: Vec<bf16> = exact.iter().map(|&x| bf16::from_f32(x)).collect();
                bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                sums.add(update, exact, values.iter().map(|v| v.to_f32()));
            }
            Dtype::F16 => {
                let values: Vec<f16> = exact.iter().map(|&x| f16::from_f32(x)).collect();
                bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                sums.add(update, exact, values.iter().map(|v| v.to_f32()));
            }
            Dtype::F64 => {
                bytes.extend(exact.iter().flat_map(|&x| f64::from(x).to_le_bytes()));
                sums.add(update, exact, exact.iter().copied());
            }
            _ => {
                bytes.extend(exact.iter().flat_map(|x| x.to_le_bytes()));
                sums.add(update, exact, exact.iter().copied());
            }
        }
        Ok(())
    });
    debug_assert!(stored.is_ok(), "storing in memory cannot fail");
    bytes
}

fn quantized(
    weight: &Weight,
    recipe: &Recipe,
    matrix: &WeightMatrix,
    pair: &Pair,
    sums: &mut Sums,
) -> Result<Vec<Vec<u8>>> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    // a strip holds whole blocks
    let step = match recipe.block.rows {
        Extent::Of(n) => STRIP.next_multiple_of(n.get()),
        Extent::All => rows.max(1),
    };
    let failed = |source| Error::Quantize {
        tensor: weight.tensor.clone(),
        source,
    };
    let mut codes = Vec::with_capacity(rows * cols);
    let mut scales = Vec::with_capacity(recipe.block.count(rows, cols));
    strips(matrix, pair, step, |update, exact| {
        let strip = (exact.len() / cols, cols);
        let mut part = vec![0; exact.len()];
        let mut grid = vec![0.0; recipe.block.count(strip.0, strip.1)];
        quantize_rows(exact, cols, recipe, &mut part, &mut grid)
            .map_err(|e| failed(e.below_rows(codes.len() / cols)))?;
        let stored =
            QuantizedMatrix::new(strip, recipe.format, recipe.block, part, grid).map_err(failed)?;
        let mut decoded = vec![0.0; exact.len()];
        stored.pack(0..strip.0, 0..cols, &mut decoded, cols);
        sums.add(update, exact, decoded.into_iter());
        codes.extend_from_slice(&stored.codes);
        scales.extend_from_slice(&stored.scales);
        Ok(())
    })?;
    let mut bytes = Vec::new();
    recipe.scale.write(&scales, &mut bytes);
    Ok(vec![codes, bytes])
}
