//! Channel scales that a quantizer has moved from the norms into the weights, moved back.
//!
//! AWQ and `SmoothQuant` multiply input channels by scales s and divide what comes before them: W' = W·diag(s), and the
//! norm's weight by s. The model is the same, but its dequantized weights are W', not W. Beside the checkpoint that was
//! quantized, s is the ratio of the norms. Moving it back gives the same model again whatever the ratio comes from, so a
//! norm that was trained does no harm.
//!
//! Where no norm stands before a layer (`down_proj`; `o_proj` without grouped queries), the scales divide the rows of the layer
//! before it, and no ratio of norms shows them: those are left, and said to be.
//!
//! **Source** `AutoAWQ` 0.2.9 `quantize/scale.py` (`scale_ln_fcs`, `scale_fc_fc`), `models/qwen3.py` (`get_layers_for_scaling`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use serde_json::{Value, json};
use xgraft_checkpoint::{Checkpoint, Dtype, NormKind, Quantization, Role, Weight};
use xgraft_cpu_gemm::Source;
use xgraft_results::{Finding, Input};

use crate::error::{Error, Result};

/// Norms whose elements differ by less, relatively, were only rounded: half a step of BF16.
const ROUNDING: f32 = 1.0 / 256.0;

/// The field of `config.json` that says of scales in the weights.
pub(crate) const FIELD: &str = "xgraft_channel_scales";

/// What moves scales back.
#[derive(Debug, Default)]
pub(crate) struct Unfolding {
    /// By tensor: what its input channels are multiplied by.
    factors: HashMap<String, Vec<f32>>,
    /// By tensor: the norm of the reference.
    norms: HashMap<String, (Dtype, Vec<u8>)>,
    /// What was read of the reference.
    pub(crate) inputs: Vec<Input>,
    pub(crate) findings: Vec<Finding>,
    /// The last components of the modules whose channels may still be scaled.
    left: BTreeSet<String>,
}

impl Unfolding {
    /// Says which weights may hold scales; without a reference none are moved.
    pub(crate) fn none(source: &Checkpoint) -> Self {
        let mut unfolding = Self::default();
        let Some(method) = folding_method(source) else {
            return unfolding;
        };
        for weight in source.weights().iter().filter(|w| w.role.is_linear()) {
            let Some(before) = before(source, weight) else {
                unfolding.say_norm_is_missing(source, weight);
                continue;
            };
            let message = format!(
                "{method} may have multiplied its input channels by scales that {before} is divided by; they are left in it"
            );
            unfolding.warn("scales-folded", weight, message,
                "the model is the same, the weights are not the original's: with --reference ORIGINAL those of q, k, v, gate and up are moved back",
            );
        }
        unfolding
    }

    /// What `config.json` says of scales that are left; nothing if there can be none.
    pub(crate) fn left(&self) -> Option<Value> {
        (!self.left.is_empty()).then(|| {
            json!({
                "folded": true,
                "layers": self.left,
                "note": "input channels of these layers may be multiplied by scales that what comes before them is divided by: the model is the same, the weights are not those of the original",
            })
        })
    }

    fn warn(&mut self, code: &str, weight: &Weight, message: String, hint: &str) {
        self.left.insert(leaf(&weight.module).to_owned());
        let finding = Finding::warning(code, weight.module.clone(), message);
        self.findings.push(finding.hint(hint));
    }

    /// Says so of a layer after a norm that the checkpoint has not; of another layer nothing.
    fn say_norm_is_missing(&mut self, source: &Checkpoint, weight: &Weight) {
        let Some(norm) = norm_before(weight.role) else {
            return;
        };
        if in_layer(source, weight, norm).is_some() {
            return;
        }
        self.warn(
            "scales-folded",
            weight,
            "its input channels may be multiplied by scales, and the norm that is divided by them is not in this checkpoint: they are left in it".to_owned(),
            "dequantize the whole model, norms included, with --reference ORIGINAL: without the norms nothing shows the scales, and these weights fit no other norms",
        );
    }

    /// Compares the norms with those of `reference`, the checkpoint before it was quantized.
    ///
    /// # Errors
    /// A reference that lacks a norm, or has another shape, or whose ratio is no positive scale.
    pub(crate) fn new(source: &Checkpoint, reference: &Checkpoint) -> Result<Self> {
        let mut unfolding = Self::default();
        let consumers = consumers(source);
        for norm in source.weights() {
            let Some(consumers) = consumers.get(&norm.module) else {
                continue;
            };
            if let Some(factors) = unfolding.factors_of(source, reference, norm)? {
                let (least, most) = range(factors.iter().map(|f| 1.0 / f));
                let names: Vec<&str> = consumers.iter().map(|w| leaf(&w.module)).collect();
                let message = format!(
                    "scales of {least:.4} to {most:.4} moved back from {} into it",
                    names.join(", ")
                );
                let finding = Finding::info("scales-unfolded", norm.module.clone(), message);
                unfolding.findings.push(finding);
                for weight in consumers {
                    let factors = factors.clone();
                    unfolding.factors.insert(weight.tensor.clone(), factors);
                }
            }
        }
        if !unfolding.factors.is_empty() || folding_method(source).is_some() {
            let compared = consumers.into_values().flatten();
            let compared: HashSet<&str> = compared.map(|w| w.tensor.as_str()).collect();
            unfolding.say_what_is_left(source, &compared);
        }
        Ok(unfolding)
    }

    /// Of all layers but those whose norms were compared.
    fn say_what_is_left(&mut self, source: &Checkpoint, compared: &HashSet<&str>) {
        let linear = source.weights().iter().filter(|w| w.role.is_linear());
        for weight in linear.filter(|w| !compared.contains(w.tensor.as_str())) {
            let Some(before) = before(source, weight) else {
                self.say_norm_is_missing(source, weight);
                continue;
            };
            let message = format!(
                "its input channels may still be multiplied by scales that {before} is divided by, which no ratio of norms shows"
            );
            self.warn("scales-left", weight, message,
                "the model is the same; compare weights of these layers with the original's with care",
            );
        }
    }

    /// norm / reference for each channel; nothing where they differ by rounding only.
    fn factors_of(
        &mut self,
        source: &Checkpoint,
        reference: &Checkpoint,
        norm: &Weight,
    ) -> Result<Option<Vec<f32>>> {
        let refuse = |expected: String, found: String| Error::Reference {
            reference: reference.dir().to_owned(),
            tensor: norm.tensor.clone(),
            expected,
            found,
        };
        let shape = format!("a norm of shape {:?}", norm.shape);
        let other = reference.weight(&norm.module);
        let other = other.ok_or_else(|| refuse(shape.clone(), "none".to_owned()))?;
        if other.shape != norm.shape {
            return Err(refuse(shape, format!("{:?}", other.shape)));
        }
        let ours = source.load(norm)?.0.to_f32();
        let (theirs, digest) = reference.load(other)?;
        let theirs = theirs.to_f32();
        let tensor = reference.stored_tensors(other)?[0];
        self.inputs.push(Input {
            role: "reference".into(),
            tensor: Some(tensor.name.clone()),
            file: reference.shards()[tensor.shard].display().to_string(),
            blake3: digest.to_hex(),
            bytes: tensor.bytes,
        });
        let mut factors = Vec::with_capacity(ours.len());
        for (channel, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            // A channel that the norm switches off holds nothing that a scale could change.
            let factor = if *a == 0.0 && *b == 0.0 { 1.0 } else { a / b };
            if !(factor > 0.0 && factor.is_finite()) {
                let expected = format!("{a} times a positive scale at channel {channel}");
                return Err(refuse(expected, b.to_string()));
            }
            factors.push(factor);
        }
        if factors.iter().all(|f| (f - 1.0).abs() <= ROUNDING) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        reference.read_bytes(tensor, 0..tensor.bytes, &mut bytes)?;
        self.norms
            .insert(norm.tensor.clone(), (tensor.dtype, bytes));
        Ok(Some(factors))
    }

    pub(crate) fn factors(&self, tensor: &str) -> Option<&[f32]> {
        self.factors.get(tensor).map(Vec::as_slice)
    }

    pub(crate) fn norm(&self, tensor: &str) -> Option<&(Dtype, Vec<u8>)> {
        self.norms.get(tensor)
    }
}

/// What the checkpoint says of a method that moves scales.
fn folding_method(source: &Checkpoint) -> Option<&'static str> {
    if matches!(source.quantization(), Quantization::Grouped(g) if g.method == "awq") {
        return Some("AWQ");
    }
    if source
        .config()
        .raw()
        .get(FIELD)
        .is_some_and(|field| field["method"] == "awq")
    {
        return Some("AWQ");
    }
    // llm-compressor leaves its recipe beside the weights.
    let recipe = std::fs::read_to_string(source.dir().join("recipe.yaml")).unwrap_or_default();
    let named = [
        ("AWQModifier", "AWQ"),
        ("SmoothQuantModifier", "SmoothQuant"),
    ];
    let found = named.iter().find(|(modifier, _)| recipe.contains(modifier));
    found.map(|(_, method)| *method)
}

/// The weights that read each norm's output; only of layers all of whose linear layers are known.
fn consumers(source: &Checkpoint) -> HashMap<String, Vec<&Weight>> {
    let mut consumers: HashMap<String, Vec<&Weight>> = HashMap::new();
    for weight in source.weights() {
        let norm = norm_before(weight.role).and_then(|norm| in_layer(source, weight, norm));
        if let Some(norm) = norm {
            consumers
                .entry(norm.module.clone())
                .or_default()
                .push(weight);
        }
    }
    let unknown: Vec<Option<usize>> = source
        .weights()
        .iter()
        .filter(|w| w.role == Role::OtherLinear)
        .map(Weight::layer)
        .collect();
    consumers.retain(|_, weights| weights.iter().all(|w| !unknown.contains(&w.layer())));
    consumers
}

/// The norm whose output a layer of this role reads.
fn norm_before(role: Role) -> Option<Role> {
    match role {
        Role::Q | Role::K | Role::V => Some(Role::Norm(NormKind::Input)),
        Role::Gate | Role::Up => Some(Role::Norm(NormKind::PostAttention)),
        _ => None,
    }
}

/// The module whose output a linear layer reads, for messages.
fn before(source: &Checkpoint, weight: &Weight) -> Option<String> {
    let role = match weight.role {
        Role::O => Role::V,
        Role::Down => Role::Up,
        role => norm_before(role)?,
    };
    let before = in_layer(source, weight, role)?;
    // With grouped queries a row of v stands for several columns of o, and AWQ leaves the pair alone.
    let alone = role == Role::V && before.matrix_shape() != weight.matrix_shape();
    (!alone).then(|| before.module.clone())
}

fn in_layer<'a>(source: &'a Checkpoint, weight: &Weight, role: Role) -> Option<&'a Weight> {
    let layer = weight.layer()?;
    let mut weights = source.weights().iter();
    weights.find(|w| w.role == role && w.layer() == Some(layer))
}

fn leaf(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

fn range(values: impl Iterator<Item = f32>) -> (f32, f32) {
    values.fold((f32::INFINITY, 0.0), |(least, most), x| {
        (f32::min(least, x), f32::max(most, x))
    })
}

/// A matrix whose columns are multiplied.
pub(crate) struct Scaled<'a, S> {
    pub(crate) matrix: &'a S,
    /// One for each column; nothing for a matrix that stays as it is.
    pub(crate) factors: Option<&'a [f32]>,
}

impl<S: Source> Source for Scaled<'_, S> {
    fn rows(&self) -> usize {
        self.matrix.rows()
    }

    fn cols(&self) -> usize {
        self.matrix.cols()
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        self.matrix.pack(rows, cols.clone(), dst, ld);
        let Some(factors) = self.factors.map(|f| &f[cols]) else {
            return;
        };
        for row in dst.chunks_mut(ld.max(1)) {
            for (x, factor) in row.iter_mut().zip(factors) {
                *x *= factor;
            }
        }
    }
}
