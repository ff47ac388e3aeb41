//! A float checkpoint into a quantized one.

use xgraft_block_scale::{BlockShape, GroupRecipe, GroupScale, ScaleDtype, WeightDtype};
use xgraft_checkpoint::{
    Checkpoint, Dtype, Fate, Fp8Layout, OutputDir, Packing, PlannedTensor, Quantization, Rewrite,
    RewriteEvent, Stored, StoredGroups, Weight, WeightMatrix, names_module, pack_strips, rewrite,
};
use xgraft_cpu_gemm::Source as _;

use crate::config::Config;
use crate::convert::{Cost, Job, bf16_bytes};
use crate::error::{Error, Result};
use crate::report::{Conversion, Loss, ModuleReport};
use crate::scheme::{Method, Scheme, Simulated};
use crate::search::Search;
use crate::simulated;

/// Quantizes the linear layers of `source` into the open directory `out`; the caller commits it.
///
/// With `base`, the checkpoint that `source` was fine-tuned from, the report says what is left of the delta.
///
/// # Errors
/// A checkpoint that is quantized already or has no linear layer, a pattern that keeps nothing, weights with NaN or infinity (named with row and
/// column), groups that do not divide a row, a base that lacks a weight or has another shape, or a full disk; and whatever
/// `on_event` returns.
pub fn quantize(
    source: &Checkpoint,
    base: Option<&Checkpoint>,
    config: &Config,
    out: &OutputDir,
    on_event: &dyn Fn(RewriteEvent<'_>) -> Result<()>,
) -> Result<Conversion> {
    let method = ready(source, config)?;
    if config.search == Search::Delta && base.is_none() {
        return Err(Error::NeedsBase);
    }
    let taken = |weight: &Weight| weight.role.is_linear() && !config.keeps(&weight.module);
    if !source.weights().iter().any(taken) {
        return Err(Error::NothingToQuantize {
            dir: source.dir().to_owned(),
        });
    }
    if let Some(base) = base {
        same_model(source, base)?;
    }
    for weight in source.weights().iter().filter(|w| taken(w)) {
        check(weight, base, config.scheme, &method)?;
    }
    let kept = kept(source, &taken);
    let quantization = method.quantization_config(config, &kept);
    let text = match method {
        Method::Simulated(_) => source
            .config()
            .with_field(simulated::FIELD, &simulated::mark(source, config)),
        _ => source.config().with_quantization(quantization.as_ref()),
    };
    let done = rewrite(
        source,
        out,
        &Rewrite {
            fate: &|weight| {
                if taken(weight) {
                    Fate::Replace(planned(weight, &method))
                } else {
                    Fate::Keep
                }
            },
            load: &|weight| source.load(weight),
            convert: &|weight, matrix, sink| {
                let base = base.map(|base| counterpart(base, weight)).transpose()?;
                let job = Job {
                    weight,
                    matrix: &matrix,
                    base: base.as_ref(),
                    search: config.search,
                };
                let (tensors, report) = convert(&job, &method)?;
                sink.tensors(&tensors)?;
                Ok(report)
            },
            on_event,
            config: &text,
            max_shard_bytes: config.max_shard_bytes,
        },
    )?;
    let mut conversion = Conversion::of(&done);
    conversion.report.simulated = simulated(source);
    if matches!(method, Method::Simulated(_)) {
        let name = config.scheme.name().to_owned();
        conversion.report.simulated.push(name);
    }
    conversion.report.findings = simulated::findings(source, Some(config));
    Ok(conversion)
}

/// The method, if the source can be quantized by it at all.
fn ready(source: &Checkpoint, config: &Config) -> Result<Method> {
    config.validate()?;
    if !matches!(source.quantization(), Quantization::None) {
        return Err(Error::AlreadyQuantized {
            dir: source.dir().to_owned(),
            layout: layout_of(source),
        });
    }
    every_pattern_is_needed(source, config)?;
    config.method()
}

/// A pattern that keeps nothing is a slip of the pen, and hours of work on a large model.
fn every_pattern_is_needed(source: &Checkpoint, config: &Config) -> Result<()> {
    let needless = config.keep.iter().find(|pattern| {
        let mut weights = source.weights().iter();
        let tied = source.tied_embeddings() && names_module(pattern, "lm_head");
        !tied && !weights.any(|w| names_module(pattern, &w.module))
    });
    match needless {
        None => Ok(()),
        Some(pattern) => Err(Error::KeepsNothing {
            dir: source.dir().to_owned(),
            pattern: pattern.clone(),
            example: source
                .weights()
                .iter()
                .find(|w| w.role.is_linear())
                .map_or_else(String::new, |w| w.module.clone()),
        }),
    }
}

/// A weight, with the tensors that take its place if it is quantized.
pub(crate) type Planned<'a> = (&'a Weight, Option<Vec<PlannedTensor>>);

/// What becomes of every weight.
pub(crate) fn planned_of<'a>(source: &'a Checkpoint, config: &Config) -> Result<Vec<Planned<'a>>> {
    let method = ready(source, config)?;
    let plan = |weight: &'a Weight| {
        if !weight.role.is_linear() || config.keeps(&weight.module) {
            return Ok((weight, None));
        }
        check(weight, None, config.scheme, &method)?;
        Ok((weight, Some(planned(weight, &method))))
    };
    source.weights().iter().map(plan).collect()
}

fn layout_of(source: &Checkpoint) -> String {
    match source.quantization() {
        Quantization::None => "not quantized".to_owned(),
        Quantization::Fp8 { layout, .. } => layout.quant_method().to_owned(),
        Quantization::Grouped(grouped) => grouped.method.clone(),
    }
}

/// What can be known before a weight is read.
fn check(
    weight: &Weight,
    base: Option<&Checkpoint>,
    scheme: Scheme,
    method: &Method,
) -> Result<()> {
    let (rows, cols) = weight.matrix_shape();
    if let Method::Groups { recipe, packing } = method {
        check_group(weight, scheme, recipe)?;
        let indivisible = |what, len: usize, by: usize| Error::Indivisible {
            tensor: weight.tensor.clone(),
            what,
            len,
            by,
        };
        match packing {
            Packing::Awq | Packing::Gptq { .. } if !rows.is_multiple_of(8) => {
                return Err(indivisible("rows", rows, 8));
            }
            Packing::Gptq { .. } if !cols.is_multiple_of(8) => {
                return Err(indivisible("columns", cols, 8));
            }
            _ => {}
        }
    }
    if let Method::Simulated(Simulated::Groups(recipe)) = method {
        check_group(weight, scheme, recipe)?;
    }
    match base {
        Some(base) => base_weight(base, weight).map(drop),
        None => Ok(()),
    }
}

/// Refuses groups that do not divide the columns.
fn check_group(weight: &Weight, scheme: Scheme, recipe: &GroupRecipe) -> Result<()> {
    let columns = weight.matrix_shape().1;
    let group = recipe.group.size(columns);
    if columns.is_multiple_of(group) {
        return Ok(());
    }
    if scheme.usual_group().is_none() {
        return Err(Error::FixedGroup {
            tensor: weight.tensor.clone(),
            columns,
            group,
            scheme: scheme.name(),
        });
    }
    let fits = (1..group).rev().find(|size| columns.is_multiple_of(*size));
    Err(Error::GroupSize {
        tensor: weight.tensor.clone(),
        columns,
        group,
        fits: fits.unwrap_or(1),
    })
}

/// Refuses a checkpoint of another model.
pub(crate) fn same_model(source: &Checkpoint, other: &Checkpoint) -> Result<()> {
    match source.config().first_difference(other.config()) {
        None => Ok(()),
        Some((field, expected, found)) => Err(Error::OtherModel {
            file: other.config().file().to_owned(),
            field,
            expected,
            found,
        }),
    }
}

fn base_weight<'a>(base: &'a Checkpoint, weight: &Weight) -> Result<&'a Weight> {
    let other = base.weight(&weight.module);
    match other {
        Some(other) if other.shape == weight.shape => Ok(other),
        _ => Err(Error::Base {
            base: base.dir().to_owned(),
            tensor: weight.tensor.clone(),
            expected: weight.shape.clone(),
            found: other.map(|other| other.shape.clone()),
        }),
    }
}

fn counterpart(base: &Checkpoint, weight: &Weight) -> Result<WeightMatrix> {
    Ok(base.load(base_weight(base, weight)?)?.0)
}

/// The modules that stay as they are and that a reader would otherwise take for quantized ones.
fn kept(source: &Checkpoint, taken: &dyn Fn(&Weight) -> bool) -> Vec<String> {
    let mut kept: Vec<String> = source
        .weights()
        .iter()
        .filter(|w| !taken(w) && w.shape.len() == 2)
        .map(|w| w.module.clone())
        .collect();
    if source.tied_embeddings() {
        kept.push("lm_head".to_owned());
    }
    kept.sort_unstable();
    kept
}

fn planned(weight: &Weight, method: &Method) -> Vec<PlannedTensor> {
    let (rows, cols) = weight.matrix_shape();
    match method {
        Method::Simulated(_) => vec![PlannedTensor::new(
            weight.tensor.clone(),
            Dtype::Bf16,
            [rows, cols],
        )],
        Method::Blocks { recipe, layout } => {
            let (grid_rows, grid_cols) = recipe.block.grid(rows, cols);
            let shape = match (recipe.block, layout) {
                (BlockShape::TENSOR, Fp8Layout::CompressedTensors) => vec![1],
                _ => vec![grid_rows, grid_cols],
            };
            let scales = format!("{}.{}", weight.module, layout.scale_suffix());
            vec![
                PlannedTensor::new(weight.tensor.clone(), Dtype::F8E4m3, [rows, cols]),
                PlannedTensor::new(scales, Dtype::from(recipe.scale), shape),
            ]
        }
        Method::Groups { recipe, packing } => {
            stored_groups(weight, recipe, *packing).planned(&weight.module, (rows, cols))
        }
    }
}

/// The names of the tensors of a grouped weight, those that its packing cannot do without.
fn stored_groups(weight: &Weight, recipe: &GroupRecipe, packing: Packing) -> StoredGroups {
    let mut parts = packing.parts(&weight.module);
    let always = matches!(packing, Packing::Awq | Packing::Gptq { .. });
    parts.zeros = parts.zeros.filter(|_| always || !recipe.symmetric);
    StoredGroups {
        packing,
        bits: recipe.levels.bits(),
        group: recipe.group,
        scale: match recipe.scale {
            GroupScale::Float(dtype) => dtype,
            GroupScale::PowerOfTwo | GroupScale::E4m3OfTensor => ScaleDtype::F32,
        },
        parts,
        decoded: match weight.stored {
            Stored::Plain(Dtype::Bf16) => Some(WeightDtype::Bf16),
            Stored::Plain(Dtype::F16) => Some(WeightDtype::F16),
            _ => Some(WeightDtype::F32),
        },
    }
}

fn convert(job: &Job<'_>, method: &Method) -> Result<(Vec<Vec<u8>>, ModuleReport)> {
    let (tensors, cost) = match method {
        Method::Blocks { recipe, .. } => {
            let quantized = job.blocks(recipe)?;
            let cost = job.cost_of_blocks(&quantized)?;
            let mut scales = Vec::new();
            recipe.scale.write(&quantized.scales, &mut scales);
            (vec![quantized.codes, scales], cost)
        }
        Method::Groups { recipe, packing } => {
            let stored = stored_groups(job.weight, recipe, *packing);
            let (tensors, costs) = pack_strips(&stored, job.shape(), |rows| {
                let strip = job.groups(recipe, rows.clone())?;
                let cost = job.cost(&strip, 0..strip.rows, rows.start);
                Ok::<_, Error>((strip, cost))
            })?;
            (tensors, Cost::of_all(costs))
        }
        Method::Simulated(simulated) => simulate(job, simulated)?,
    };
    let bytes_out = tensors.iter().map(|t| t.len() as u64).sum();
    Ok((tensors, note(job, cost, bytes_out)?))
}

fn simulate(job: &Job<'_>, simulated: &Simulated) -> Result<(Vec<Vec<u8>>, Cost)> {
    Ok(match simulated {
        Simulated::Blocks(recipe) => {
            let quantized = job.blocks(recipe)?;
            (
                vec![bf16_bytes(&quantized)],
                job.cost_of_blocks(&quantized)?,
            )
        }
        Simulated::Groups(recipe) => {
            let quantized = job.groups(recipe, 0..job.shape().0)?;
            (vec![bf16_bytes(&quantized)], job.cost_of_all(&quantized))
        }
    })
}

fn note(job: &Job<'_>, Cost { trip, delta }: Cost, bytes_out: u64) -> Result<ModuleReport> {
    let element = match job.matrix {
        WeightMatrix::F32(_) => 4,
        _ => 2,
    };
    Ok(ModuleReport {
        module: job.weight.module.clone(),
        shape: [job.matrix.rows(), job.matrix.cols()],
        loss: Some(Loss {
            relative_error: trip.relative_error(),
            error2: trip.error2,
            norm2: trip.norm2,
            max_abs_error: f64::from(trip.max_abs_error),
            saturated: trip.saturated as u64,
        }),
        delta,
        bytes_in: (job.data()?.len() * element) as u64,
        bytes_out,
    })
}
