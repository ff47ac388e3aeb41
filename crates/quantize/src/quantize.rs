//! A float checkpoint into a quantized one.

use serde_json::json;
use xgraft_block_scale::GroupRecipe;
use xgraft_checkpoint::{
    Activations, Checkpoint, Dtype, Fate, OutputDir, Packing, PlannedTensor, Quantization, Rewrite,
    RewriteEvent, Sink, Weight, WeightMatrix, names_module, rewrite,
};

use crate::awq::{ChannelScales, channel_scales, forget, plain_bytes};
use crate::config::Config;
use crate::convert::Job;
use crate::dequantize::flat;
use crate::error::{Error, Result};
use crate::known::Known;
use crate::one::{One, planned};
use crate::report::{Conversion, ModuleReport};
use crate::scheme::{Method, Scheme, Simulated};
use crate::search::Search;
use crate::simulated;
use crate::unfold;

/// Quantizes the linear layers of `source` into the open directory `out`; the caller commits it.
///
/// With the checkpoint that `source` was fine-tuned from, the report says what is left of the delta; with activation
/// statistics, what the layers' outputs lose.
///
/// # Errors
/// A checkpoint that is quantized already or has no linear layer, a pattern that keeps nothing, weights with NaN or infinity (named with row and
/// column), groups that do not divide a row, a base that lacks a weight or has another shape, statistics that are needed and
/// missing, of another checkpoint or of too few tokens, or a full disk; and whatever `on_event` returns.
pub fn quantize(
    source: &Checkpoint,
    known: Known<'_>,
    config: &Config,
    out: &OutputDir,
    on_event: &dyn Fn(RewriteEvent<'_>) -> Result<()>,
) -> Result<Conversion> {
    let method = ready(source, config)?;
    let taken = |weight: &Weight| weight.role.is_linear() && !config.keeps(&weight.module);
    check_all(source, known, config, &method, &taken)?;
    let kept = kept(source, &taken);
    let (scales, scaled) = match &method {
        Method::Groups { recipe, .. } | Method::Simulated(Simulated::Groups(recipe))
            if config.awq =>
        {
            channel_scales(source, known, recipe, &taken, out, on_event)?
        }
        _ => (ChannelScales::default(), Vec::new()),
    };
    let run = Run {
        source,
        known,
        config,
        method,
        scales,
    };
    let done = rewrite(
        source,
        out,
        &Rewrite {
            fate: &|weight| match (taken(weight), run.scales.divides(weight)) {
                (true, _) => Fate::Replace(planned(weight, &run.method)),
                (false, true) => Fate::Replace(vec![same(source, weight)]),
                (false, false) => Fate::Keep,
            },
            load: &|weight| {
                let (matrix, digest) = source.load(weight)?;
                Ok(((matrix, digest), digest))
            },
            convert: &|weight, (matrix, digest), sink| {
                known.check_digest(&weight.tensor, &digest.to_hex())?;
                run.convert(weight, matrix, sink)
            },
            on_event,
            config: &run.text(&kept),
            max_shard_bytes: config.max_shard_bytes,
        },
    )?;
    for one in &done {
        known.check_digest(&one.tensor, &one.blake3)?;
    }
    forget(out)?;
    let done: Vec<_> = done.into_iter().map(flat).collect();
    let mut conversion = Conversion::of(&done);
    conversion.report.scaled = scaled;
    conversion.report.simulated = simulated(source);
    if matches!(run.method, Method::Simulated(_)) {
        let name = config.scheme.name().to_owned();
        conversion.report.simulated.push(name);
    }
    conversion.report.findings = simulated::findings(source, Some(config));
    Ok(conversion)
}

/// A conversion that is under way.
struct Run<'a> {
    source: &'a Checkpoint,
    known: Known<'a>,
    config: &'a Config,
    method: Method,
    scales: ChannelScales,
}

impl Run<'_> {
    /// Writes a weight, with an account of it unless it is a norm or bias that is divided.
    fn convert(
        &self,
        weight: &Weight,
        matrix: WeightMatrix,
        sink: &mut Sink<'_>,
    ) -> Result<Option<ModuleReport>> {
        if self.scales.divides(weight) {
            let divided = self.scales.apply(weight, matrix);
            sink.tensors(&[plain_bytes(&divided)])?;
            return Ok(None);
        }
        let base = self.known.base;
        let base = base.map(|base| counterpart(base, weight)).transpose()?;
        let scaled = (!self.scales.is_empty()).then(|| self.scales.apply(weight, matrix.clone()));
        let seen = self.known.activations(&weight.module);
        let squares = seen.map(Activations::mean_square);
        let one = One {
            job: Job {
                weight,
                matrix: &matrix,
                base: base.as_ref(),
                search: self.config.search,
                squares: squares.as_deref(),
            },
            scaled: scaled.as_ref(),
            scales: &self.scales,
            amax: seen.map(Activations::amax),
        };
        let (tensors, report) = one.convert(&self.method)?;
        sink.tensors(&tensors)?;
        Ok(Some(report))
    }

    /// The text of the new `config.json`.
    fn text(&self, kept: &[String]) -> String {
        let before = self.source.config();
        let quantization = self.method.quantization_config(self.config, kept);
        match self.method {
            Method::Simulated(_) => {
                before.with_field(simulated::FIELD, &simulated::mark(self.source, self.config))
            }
            _ if self.scales.is_empty() => before.with_quantization(quantization.as_ref()),
            _ => {
                let scales = json!({
                    "folded": true,
                    "layers": self.scales.layers(),
                    "method": "awq",
                    "note": "input channels of these layers are multiplied by scales that what comes before them is divided by: the model is the same, the weights are not those of the original",
                });
                before.with_quantization_and(quantization.as_ref(), unfold::FIELD, &scales)
            }
        }
    }
}

/// The tensor as it is, for a norm or bias whose numbers change.
fn same(source: &Checkpoint, weight: &Weight) -> PlannedTensor {
    let dtype = source
        .tensor(&weight.tensor)
        .map_or(Dtype::F32, |t| t.dtype);
    PlannedTensor::new(weight.tensor.clone(), dtype, weight.shape.clone())
}

/// All that can be known before a weight is read.
fn check_all(
    source: &Checkpoint,
    known: Known<'_>,
    config: &Config,
    method: &Method,
    taken: &dyn Fn(&Weight) -> bool,
) -> Result<()> {
    if config.search == Search::Delta && known.base.is_none() {
        return Err(Error::NeedsBase);
    }
    if !source.weights().iter().any(taken) {
        return Err(Error::NothingToQuantize {
            dir: source.dir().to_owned(),
        });
    }
    if let Some(base) = known.base {
        same_model(source, base)?;
    }
    let weights = || source.weights().iter().filter(|w| taken(w));
    for weight in weights() {
        check(weight, known.base, config.scheme, method)?;
    }
    known.check(config, weights())
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
