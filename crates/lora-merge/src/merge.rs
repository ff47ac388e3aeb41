//! The merge of a whole checkpoint.

use std::collections::HashMap;

use half::{bf16, f16};
use serde_json::{Value, json};
use xgraft_adapter_sanitize::plain_lora;
use xgraft_block_scale::{
    Arithmetic, Extent, GroupRecipe, GroupScale, GroupedMatrix, QuantizedMatrix, Recipe,
    ScaleDtype, WeightDtype, quantize_rows,
};
use xgraft_checkpoint::{
    Adapter, AdapterPart, Checkpoint, DEFAULT_SHARD_BYTES, Dtype, Fate, Identity as _, OutputDir,
    Packing, PlannedTensor, Rewrite, RewriteEvent, Role, Stored, StoredGroups, Weight,
    WeightMatrix, pack_grouped, rewrite,
};
use xgraft_cpu_gemm::Source;
use xgraft_results::Input;

use crate::error::{Error, Result};
use crate::pair::{Change, Stands};
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
/// commits it. LoRA pairs are added; tensors that the adapter holds whole take the place of the
/// base's. Every weight keeps the format in which the base stores it.
///
/// # Errors
/// An adapter that does not fit the base, weights that are broken, or a full disk; and whatever
/// `on_event` returns.
pub fn merge(
    base: &Checkpoint,
    adapter: &Adapter,
    config: &Config,
    out: &OutputDir,
    on_event: &dyn Fn(RewriteEvent<'_>) -> Result<()>,
) -> Result<Merged> {
    plain_lora(adapter)?;
    let changes = check(base, adapter)?;
    let done = rewrite(
        base,
        out,
        &Rewrite {
            fate: &|weight| match changes.get(weight.tensor.as_str()) {
                Some(_) => Fate::Replace(planned(base, weight)),
                None => Fate::Keep,
            },
            load: &|weight| base.load(weight),
            convert: &|weight, matrix, sink| {
                let change = Change::load(adapter, changes[weight.tensor.as_str()], weight)?;
                let (tensors, report) = convert(weight, &matrix, &change)?;
                sink.tensors(&tensors)?;
                Ok(report)
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

/// The changes that the adapter holds, by the tensor that they change.
fn check<'a>(base: &Checkpoint, adapter: &'a Adapter) -> Result<HashMap<String, Stands<'a>>> {
    let mut changes = HashMap::new();
    for module in adapter.modules() {
        let weight = weight(base, &module.module, "weight")?;
        if weight.shape.len() != 2 || matches!(weight.role, Role::Norm(_) | Role::Bias) {
            return Err(unknown(base, &module.module));
        }
        changes.insert(weight.tensor.clone(), Stands::Pair(module));
    }
    for tensor in adapter.others() {
        let name = tensor.info.name.as_str();
        // PEFT stores a copy of the base's own weights beside an adapted embedding.
        if name.split('.').any(|component| component == "base_layer") {
            continue;
        }
        let leaf = if name.ends_with(".bias") {
            "bias"
        } else {
            "weight"
        };
        let weight = weight(base, &tensor.module, leaf)?;
        let twice = changes.insert(weight.tensor.clone(), Stands::Whole(tensor));
        let lora = name
            .split('.')
            .any(|component| component.starts_with("lora_"));
        if tensor.part != AdapterPart::Other || lora || twice.is_some() {
            return Err(Error::Unclear {
                tensor: name.to_owned(),
            });
        }
    }
    Ok(changes)
}

fn unknown(base: &Checkpoint, module: &str) -> Error {
    Error::UnknownModule {
        module: module.to_owned(),
        base: base.dir().to_owned(),
    }
}

/// The base's weight that a module's change is for.
fn weight<'a>(base: &'a Checkpoint, module: &str, leaf: &str) -> Result<&'a Weight> {
    let tied = matches!(module.rsplit('.').next(), Some("lm_head" | "embed_tokens"));
    if tied && base.tied_embeddings() {
        return Err(Error::Tied {
            module: module.to_owned(),
            base: base.dir().to_owned(),
        });
    }
    let name = format!("{module}.{leaf}");
    let mut weights = base.weights().iter();
    let found = weights.find(|w| w.plain_name() == name);
    found.ok_or_else(|| unknown(base, module))
}

/// The tensors of a weight, unchanged in name, type and shape; but bitsandbytes' scales are stored as they are, where the
/// base has them quantized in turn.
fn planned(base: &Checkpoint, weight: &Weight) -> Vec<PlannedTensor> {
    if let Stored::Grouped(stored) = &weight.stored
        && stored.packing == Packing::BitsAndBytes
    {
        let stored = stored.without_nested_scales();
        return stored.planned(&weight.module, weight.matrix_shape());
    }
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

    fn report(&self, weight: &Weight, rank: Option<usize>) -> ModuleReport {
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

fn convert(
    weight: &Weight,
    matrix: &WeightMatrix,
    change: &Change,
) -> Result<(Vec<Vec<u8>>, ModuleReport)> {
    let mut sums = Sums::default();
    let tensors = match &weight.stored {
        Stored::Plain(dtype) => vec![plain(*dtype, matrix, change, &mut sums)],
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
            quantized(weight, &recipe, matrix, change, &mut sums)?
        }
        Stored::Grouped(stored) => grouped(weight, stored, matrix, change, &mut sums)?,
    };
    Ok((tensors, sums.report(weight, change.rank())))
}

/// Each strip of `step` rows, with the update and the exact sum.
fn strips(
    matrix: &WeightMatrix,
    change: &Change,
    step: usize,
    mut with: impl FnMut(&[f32], &[f32]) -> Result<()>,
) -> Result<()> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    for start in (0..rows).step_by(step) {
        let range = start..rows.min(start + step);
        let mut exact = vec![0.0; range.len() * cols];
        matrix.pack(range.clone(), 0..cols, &mut exact, cols);
        let update = change.apply(range, &mut exact);
        with(&update, &exact)?;
    }
    Ok(())
}

fn plain(dtype: Dtype, matrix: &WeightMatrix, change: &Change, sums: &mut Sums) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(matrix.rows() * matrix.cols() * dtype.bytes());
    let stored = strips(matrix, change, STRIP, |update, exact| {
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

/// Grouped integers again, each group with the scale and zero point that its new values ask for.
fn grouped(
    weight: &Weight,
    stored: &StoredGroups,
    matrix: &WeightMatrix,
    change: &Change,
    sums: &mut Sums,
) -> Result<Vec<Vec<u8>>> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    if matches!(matrix, WeightMatrix::Grouped(old) if old.groups_of.is_some()) {
        return Err(Error::Sorted {
            tensor: weight.tensor.clone(),
        });
    }
    let float = match stored.scale {
        ScaleDtype::Bf16 => WeightDtype::Bf16,
        ScaleDtype::F16 => WeightDtype::F16,
        _ => WeightDtype::F32,
    };
    let symmetric = stored.parts.zeros.is_none();
    let recipe = GroupRecipe {
        arithmetic: Arithmetic::F32,
        scale: GroupScale::Float(stored.scale),
        levels: stored.levels(),
        ..GroupRecipe::compressed_tensors(stored.bits, stored.group, symmetric, float)
    };
    let mut all = GroupedMatrix {
        rows,
        cols,
        levels: stored.levels(),
        group: stored.group,
        codes: Vec::with_capacity(rows * cols),
        scales: Vec::new(),
        zeros: (!symmetric).then(Vec::new),
        groups_of: None,
    };
    strips(matrix, change, STRIP, |update, exact| {
        let part = recipe.quantize(exact, (exact.len() / cols.max(1), cols), 1.0);
        let part = part.map_err(|source| Error::Quantize {
            tensor: weight.tensor.clone(),
            source: source.below_rows_of_groups(all.codes.len() / cols.max(1)),
        })?;
        sums.add(update, exact, part.to_f32().into_iter());
        all.codes.extend(part.codes);
        all.scales.extend(part.scales);
        if let (Some(all), Some(part)) = (&mut all.zeros, part.zeros) {
            all.extend(part);
        }
        Ok(())
    })?;
    Ok(pack_grouped(&stored.without_nested_scales(), &all))
}

fn quantized(
    weight: &Weight,
    recipe: &Recipe,
    matrix: &WeightMatrix,
    change: &Change,
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
    strips(matrix, change, step, |update, exact| {
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
