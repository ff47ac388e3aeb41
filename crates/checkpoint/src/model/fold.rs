//! Tensors to logical weights: codes and scales are paired, and every contradiction with the configuration is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xgraft_block_scale::{BlockShape, Extent};

use super::config::ModelConfig;
use super::packing::{Grouped, GroupedParts, Packing, StoredGroups, is_part};
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
            let known = match self.grouped() {
                Some(grouped) => leaf == Some(grouped.packing.codes_leaf()),
                None => false,
            };
            if !known && matches!(leaf, Some("qweight" | "weight_packed")) {
                let expected = format!("a layout that fits {}", self.layout_name());
                return Err(self.error(tensor, expected, "packed integers"));
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

    fn grouped(&self) -> Option<&Grouped> {
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

    /// How integer codes are packed, and `[out, in]`; nothing for a tensor that holds none.
    fn packed(
        &self,
        codes: &TensorInfo,
        module: &str,
    ) -> Result<Option<(StoredGroups, [usize; 2])>> {
        let leaf = codes.name.rsplit('.').next().unwrap_or_default();
        let Some(grouped) = self.grouped() else {
            return Ok(None);
        };
        let packing = grouped.packing;
        let dtype = packing.shapes(grouped.bits, (1, 1), 1).dtype;
        if leaf != packing.codes_leaf() || codes.dtype != dtype {
            return Ok(None);
        }
        let &[lines, words] = codes.shape.as_slice() else {
            let found = format!("shape {}", shape_text(&codes.shape));
            return Err(self.error(codes, "packed codes of two dimensions", found));
        };
        if grouped.ignored.iter().any(|name| name == module) {
            let found = format!("{} codes", codes.dtype);
            let expected = "an unquantized weight, as the configuration lists its module";
            return Err(self.error(codes, expected, found));
        }
        let named = |leaf: Option<&'static str>| {
            let name = format!("{module}.{}", leaf?);
            self.tensors.get(&name)
        };
        let [scales, zeros, groups_of, shape] = packing.part_leaves();
        let Some(scales) = named(scales) else {
            let expected = format!(
                "its scales in `{module}.{}`",
                packing.part_leaves()[0].unwrap_or_default()
            );
            return Err(self.error(codes, expected, "none"));
        };
        let Some(scale) = scales.dtype.as_scale() else {
            let found = scales.dtype.to_string();
            return Err(self.error(scales, "scales in F32, BF16 or F16", found));
        };
        let (zeros, groups_of, shape_tensor) = (named(zeros), named(groups_of), named(shape));
        let [out, inner] = match packing.weight_shape(grouped.bits, [lines, words]) {
            Some(shape) => shape,
            // The codes say how many columns there are but for the last word; the groups settle it.
            None => [lines, self.columns(grouped, words, scales)?],
        };
        let groups = grouped.group.blocks(inner);
        if !inner.is_multiple_of(grouped.group.size(inner)) {
            let found = format!("{inner} columns");
            let expected = format!(
                "columns that groups of {} divide",
                grouped.group.size(inner)
            );
            return Err(self.error(codes, expected, found));
        }
        let shapes = packing.shapes(grouped.bits, (out, inner), groups);
        let per_tensor = packing == Packing::Bytes && matches!(scales.shape.as_slice(), [] | [1]);
        let flat = |tensor: &TensorInfo| {
            tensor
                .shape
                .iter()
                .filter(|n| **n != 1)
                .copied()
                .collect::<Vec<_>>()
        };
        let squeezed =
            |shape: [usize; 2]| shape.into_iter().filter(|n| *n != 1).collect::<Vec<_>>();
        let check = |tensor: &TensorInfo, what: &str, expected: [usize; 2]| {
            if flat(tensor) == squeezed(expected) {
                return Ok(());
            }
            let expected = format!(
                "{what} of shape {} for a weight {}",
                shape_text(&expected),
                shape_text(&[out, inner])
            );
            Err(self.error(
                tensor,
                expected,
                format!("shape {}", shape_text(&tensor.shape)),
            ))
        };
        check(codes, "codes", shapes.codes)?;
        if !per_tensor {
            check(scales, "scales", shapes.scales)?;
        }
        match zeros {
            Some(zeros) => {
                check(zeros, "zero points", shapes.zeros)?;
                if zeros.dtype != shapes.dtype {
                    let found = zeros.dtype.to_string();
                    return Err(self.error(
                        zeros,
                        format!("zero points in {}", shapes.dtype),
                        found,
                    ));
                }
            }
            None if !grouped.symmetric => {
                let leaf = packing.part_leaves()[1].unwrap_or_default();
                let expected = format!(
                    "its zero points in `{module}.{leaf}`, because the configuration says that they differ"
                );
                return Err(self.error(codes, expected, "none"));
            }
            None => {}
        }
        if let Some(groups_of) = groups_of {
            check(groups_of, "group indices", [inner, 1])?;
        }
        let name = |tensor: Option<&TensorInfo>| tensor.map(|tensor| tensor.name.clone());
        let stored = StoredGroups {
            packing,
            bits: grouped.bits,
            group: grouped.group,
            scale,
            parts: GroupedParts {
                scales: scales.name.clone(),
                zeros: name(zeros),
                groups_of: name(groups_of),
                shape: name(shape_tensor),
            },
        };
        Ok(Some((stored, [out, inner])))
    }

    /// Columns of a weight whose rows are packed into so many words.
    fn columns(&self, grouped: &Grouped, words: usize, scales: &TensorInfo) -> Result<usize> {
        let most = words.checked_mul(grouped.packing.per_word(grouped.bits));
        let groups = scales.shape.last().copied().unwrap_or(1);
        match (grouped.group, most) {
            (Extent::Of(size), Some(_)) => match groups.checked_mul(size.get()) {
                Some(columns) => Ok(columns),
                None => Err(self.error(scales, "a possible number of groups", groups.to_string())),
            },
            (Extent::All, Some(most)) => Ok(most),
            (_, None) => Err(self.error(scales, "a possible shape", words.to_string())),
        }
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
            let found = format!(
                "{} codes, and no quantization_config in config.json",
                codes.dtype
            );
            return Err(self.error(codes, "weights that are not quantized", found));
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

    fn error(
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
