//! Tensors to logical weights: codes and scales are paired, and every contradiction with the configuration is refused.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use xgraft_block_scale::BlockShape;

use super::bitsandbytes::{QuantState, STATE};
use super::config::ModelConfig;
use super::packing::{Grouped, Packing, is_part};
use super::quantization::{Fp8Layout, Quantization, block_text};
use super::role::Role;
use super::weight::{Stored, TensorInfo, Weight};
use crate::error::{Error, Result, shape_text};
use crate::pattern::compile;

/// The names that scales of FP8 weights have, whatever the layout.
const SCALE_LEAVES: [&str; 2] = ["weight_scale_inv", "weight_scale"];

/// Everything that is needed to judge the tensors of one checkpoint.
pub(crate) struct Fold<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) quantization: &'a Quantization,
    pub(crate) tensors: &'a BTreeMap<String, TensorInfo>,
    /// What bitsandbytes' JSON says, by the name of its tensor.
    pub(crate) states: &'a HashMap<String, QuantState>,
    /// The path of each shard, for messages.
    pub(crate) shards: &'a [PathBuf],
}

impl Fold<'_> {
    /// The logical weights in natural order (`layers.2` before `layers.10`).
    pub(crate) fn weights(&self) -> Result<Vec<Weight>> {
        self.refuse_contradicting_layouts()?;
        let mut weights = Vec::with_capacity(self.tensors.len());
        for tensor in self.tensors.values() {
            if !self.is_folded(tensor)? {
                weights.push(self.weight(tensor)?);
            }
        }
        self.check_coverage(&weights)?;
        weights.sort_by(|a, b| natural_key(&a.tensor).cmp(&natural_key(&b.tensor)));
        Ok(weights)
    }

    /// Packed codes that the configuration does not speak of.
    fn refuse_contradicting_layouts(&self) -> Result<()> {
        for tensor in self.tensors.values() {
            let leaf = tensor.name.rsplit('.').next();
            let packing = self.grouped().map(|grouped| grouped.packing);
            let integers = matches!(leaf, Some("qweight" | "weight_packed"))
                && leaf != packing.map(Packing::codes_leaf);
            let nf4 = tensor.name.ends_with(STATE) && packing != Some(Packing::BitsAndBytes);
            if integers || nf4 {
                let expected = format!("a layout that fits {}", self.layout_name());
                let found = if nf4 {
                    "bitsandbytes' NF4"
                } else {
                    "packed integers"
                };
                return Err(self.error(tensor, expected, found));
            }
        }
        Ok(())
    }

    /// What the configuration promises, in words.
    fn layout_name(&self) -> String {
        match self.quantization {
            Quantization::None => "config.json, which has no quantization_config".to_owned(),
            Quantization::Fp8 { layout, .. } => {
                format!("quant_method `{}` with FP8 codes", layout.quant_method())
            }
            Quantization::Grouped(grouped) => format!(
                "quant_method `{}` with codes in `{}`",
                grouped.method,
                grouped.packing.codes_leaf()
            ),
        }
    }

    pub(super) fn grouped(&self) -> Option<&Grouped> {
        match self.quantization {
            Quantization::Grouped(grouped) => Some(grouped),
            _ => None,
        }
    }

    /// Whether the tensor belongs to the codes of another; an error if it is scales of nothing.
    fn is_folded(&self, tensor: &TensorInfo) -> Result<bool> {
        if let Some(grouped) = self.grouped()
            && is_part(grouped.packing, &tensor.name, self.tensors)
        {
            return Ok(true);
        }
        let Some((module, leaf)) = tensor.name.rsplit_once('.') else {
            return Ok(false);
        };
        if !SCALE_LEAVES.contains(&leaf) {
            return Ok(false);
        }
        let codes = self.tensors.get(&format!("{module}.weight"));
        if codes.is_some_and(|codes| codes.dtype.fp8_format().is_some()) {
            return Ok(true);
        }
        if *self.quantization == Quantization::None {
            return Ok(false);
        }
        let found = codes.map_or("no such tensor".to_owned(), |codes| codes.dtype.to_string());
        Err(self.error(tensor, format!("FP8 codes in `{module}.weight`"), found))
    }

    fn weight(&self, tensor: &TensorInfo) -> Result<Weight> {
        let module = tensor
            .name
            .rsplit_once('.')
            .map_or(tensor.name.as_str(), |(module, _)| module);
        let model_type = self.config.model_type.as_deref();
        if let Some((stored, shape)) = self.packed(tensor, module)? {
            return Ok(Weight {
                module: module.to_owned(),
                tensor: tensor.name.clone(),
                role: Role::of(&format!("{module}.weight"), 2, model_type),
                shape: shape.to_vec(),
                stored: Stored::Grouped(stored),
            });
        }
        let stored = match tensor.dtype.fp8_format() {
            Some(_) => self.fp8(tensor, module)?,
            None => Stored::Plain(tensor.dtype),
        };
        Ok(Weight {
            module: module.to_owned(),
            tensor: tensor.name.clone(),
            role: Role::of(&tensor.name, tensor.shape.len(), model_type),
            shape: tensor.shape.clone(),
            stored,
        })
    }

    /// Pairs FP8 codes with their scales.
    fn fp8(&self, codes: &TensorInfo, module: &str) -> Result<Stored> {
        let Quantization::Fp8 {
            layout,
            format,
            block,
            ignored,
            ..
        } = self.quantization
        else {
            let expected = format!("a layout that fits {}", self.layout_name());
            return Err(self.error(codes, expected, format!("{} codes", codes.dtype)));
        };
        let &[rows, cols] = codes.shape.as_slice() else {
            let found = format!("shape {}", shape_text(&codes.shape));
            return Err(self.error(codes, "FP8 codes of two dimensions", found));
        };
        if codes.dtype.fp8_format() != Some(*format) {
            let expected = format!("{format:?} codes, as the configuration says");
            return Err(self.error(codes, expected, codes.dtype.to_string()));
        }
        if ignored.iter().any(|name| name == module) {
            let found = format!("{} codes", codes.dtype);
            return Err(self.error(
                codes,
                "an unquantized weight, as the configuration lists its module",
                found,
            ));
        }
        let scales = self.scales(codes, module, *layout, *block)?;
        let Some(scale) = scales.dtype.as_scale() else {
            return Err(self.error(
                scales,
                "scales in F32, BF16, F16 or F8_E8M0",
                scales.dtype.to_string(),
            ));
        };
        let fits = |block: &BlockShape| scale_fits(*block, rows, cols, &scales.shape);
        let Some(block) = self.quantization.blocks().find(fits) else {
            let grid = shape_text(&<[usize; 2]>::from(block.grid(rows, cols)));
            let expected = format!(
                "scales of shape {grid}: codes {} in blocks of {}",
                shape_text(&codes.shape),
                block_text(*block)
            );
            return Err(self.error(
                scales,
                expected,
                format!("shape {}", shape_text(&scales.shape)),
            ));
        };
        Ok(Stored::Fp8 {
            format: *format,
            block,
            scale,
            scale_tensor: scales.name.clone(),
        })
    }

    fn scales(
        &self,
        codes: &TensorInfo,
        module: &str,
        layout: Fp8Layout,
        block: BlockShape,
    ) -> Result<&TensorInfo> {
        let named = |leaf: &str| self.tensors.get(&format!("{module}.{leaf}"));
        let suffix = layout.scale_suffix();
        // A checkpoint with one scale per tensor says `fp8` and calls it `weight_scale` (vLLM's own quantizer).
        let per_tensor = layout == Fp8Layout::Hf && block == BlockShape::TENSOR;
        if let Some(scales) = named(suffix).or_else(|| named("weight_scale").filter(|_| per_tensor))
        {
            return Ok(scales);
        }
        let other = SCALE_LEAVES
            .iter()
            .find(|leaf| **leaf != suffix && named(leaf).is_some());
        let found = other.map_or("none".to_owned(), |leaf| {
            format!("`{module}.{leaf}`, the name of another layout")
        });
        let expected = format!(
            "its scales in `{module}.{suffix}` ({})",
            layout.quant_method()
        );
        Err(self.error(codes, expected, found))
    }

    /// A configuration that promises FP8 must be kept for the layers that engines quantize by it.
    fn check_coverage(&self, weights: &[Weight]) -> Result<()> {
        let (method, ignored, contract) = match self.quantization {
            Quantization::None => return Ok(()),
            Quantization::Fp8 {
                layout, ignored, ..
            } => (
                layout.quant_method(),
                ignored,
                *layout == Fp8Layout::CompressedTensors,
            ),
            Quantization::Grouped(grouped) => (
                grouped.method.as_str(),
                &grouped.ignored,
                grouped.method == Fp8Layout::CompressedTensors.quant_method(),
            ),
        };
        let named = |w: &&Weight| w.role.is_linear() && w.role != Role::OtherLinear;
        if !weights.iter().any(Weight::is_quantized) {
            return Err(Error::Config {
                file: self.config.file().to_owned(),
                field: "quantization_config".to_owned(),
                expected: "none, because no tensor holds codes".to_owned(),
                found: method.to_owned(),
            });
        }
        if contract && !self.targets_every_linear() {
            return Ok(());
        }
        let plain = |w: &&Weight| {
            !w.is_quantized() && !ignored.iter().any(|entry| names_module(entry, &w.module))
        };
        let Some(weight) = weights.iter().filter(named).find(plain) else {
            return Ok(());
        };
        let tensor = &self.tensors[&weight.tensor];
        let expected = "codes, because the configuration does not list its module as unquantized";
        Err(self.error(tensor, expected, tensor.dtype.to_string()))
    }

    fn targets_every_linear(&self) -> bool {
        let groups = self
            .config
            .raw()
            .get("quantization_config")
            .and_then(|q| q.get("config_groups"));
        let groups = groups.and_then(|groups| groups.as_object());
        let linear = |group: &serde_json::Value| {
            group["targets"]
                .as_array()
                .is_some_and(|t| t.contains(&"Linear".into()))
        };
        groups.is_some_and(|groups| groups.values().any(linear))
    }

    pub(super) fn error(
        &self,
        tensor: &TensorInfo,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::Quantized {
            file: self
                .shards
                .get(tensor.shard)
                .map_or_else(|| Path::new("").to_owned(), Clone::clone),
            tensor: tensor.name.clone(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Whether scales of this shape are the grid of `block` on a matrix of `rows` × `cols`.
fn scale_fits(block: BlockShape, rows: usize, cols: usize, shape: &[usize]) -> bool {
    let (grid_rows, grid_cols) = block.grid(rows, cols);
    match *shape {
        [] | [1] => grid_rows * grid_cols == 1,
        [n] => n == grid_rows && grid_cols == 1,
        [r, c] => (r, c) == (grid_rows, grid_cols),
        _ => false,
    }
}

/// Whether an entry of an ignore list could mean a module: it names it, a parent, or a run of its components;
/// a regular expression matches from the start, and one that cannot be read always could.
pub fn names_module(entry: &str, module: &str) -> bool {
    let entry_components: Vec<&str> = entry.split('.').collect();
    let components: Vec<&str> = module.split('.').collect();
    match entry.strip_prefix("re:") {
        Some(pattern) => {
            compile(&format!("^(?:{pattern})")).map_or(true, |regex| regex.is_match(module))
        }
        None => components
            .windows(entry_components.len())
            .any(|run| run == entry_components),
    }
}

/// Whether [`names_module`] can take an entry by its word: whether what follows `re:` is a regular expression.
///
/// A configuration's ignore list may be of Python's dialect, and an entry that cannot be read is taken to match; what a person
/// types here and now should be refused instead.
///
/// # Errors
/// Why it is none.
pub fn module_pattern(entry: &str) -> Result<(), String> {
    match entry.strip_prefix("re:") {
        Some(pattern) => compile(&format!("^(?:{pattern})")).map(drop),
        None => Ok(()),
    }
}

/// Components of a name, numbers as numbers.
pub(crate) fn natural_key(name: &str) -> Vec<(Option<u64>, &str)> {
    name.split('.').map(|c| (c.parse().ok(), c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_two_comes_before_layer_ten() {
        assert!(natural_key("model.layers.2.x") < natural_key("model.layers.10.x"));
    }

    #[test]
    fn an_ignore_entry_matches_by_component() {
        assert!(names_module("lm_head", "lm_head"));
        assert!(names_module(
            "self_attn.q_proj",
            "model.layers.0.self_attn.q_proj"
        ));
        assert!(!names_module("q_pro", "model.layers.0.self_attn.q_proj"));
        assert!(names_module(
            "re:.*self_attn",
            "model.layers.0.self_attn.q_proj"
        ));
        assert!(!names_module(
            "re:.*gate",
            "model.layers.0.self_attn.q_proj"
        ));
        assert!(names_module("re:(?!x)", "model.layers.0.self_attn.q_proj"));
    }

    #[test]
    fn scale_shapes_of_a_tensor_a_channel_and_a_block() {
        assert!(scale_fits(BlockShape::TENSOR, 300, 200, &[]));
        assert!(scale_fits(BlockShape::TENSOR, 300, 200, &[1]));
        assert!(scale_fits(BlockShape::ROW, 300, 200, &[300, 1]));
        assert!(scale_fits(BlockShape::B128, 300, 200, &[3, 2]));
        assert!(!scale_fits(BlockShape::B128, 300, 200, &[2, 3]));
        assert!(!scale_fits(BlockShape::B128, 300, 200, &[]));
    }
}
