//! Which layout the tensors of a module show, whatever config.json says.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use xgraft_checkpoint::{Checkpoint, Dtype, Inventory, Role, TensorInfo};

/// How the weights of a module are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Numbers in their own type.
    Plain,
    /// FP8 codes with `weight_scale_inv`, as Qwen and DeepSeek publish.
    HfFp8,
    /// compressed-tensors: FP8 codes with `weight_scale`.
    FloatQuantized,
    /// compressed-tensors: INT8 codes with `weight_scale`.
    IntQuantized,
    /// compressed-tensors: `weight_packed`, several integers in each I32.
    PackQuantized,
    /// AWQ: `qweight` [in, out/8] packed along out.
    Awq,
    /// GPTQ: `qweight` [in/8, out] packed along in.
    Gptq,
    /// bitsandbytes: U8 codes with `absmax` and `quant_map`.
    BitsAndBytes,
    /// Codes whose layout cannot be told.
    Unknown,
}

impl Layout {
    /// Its name: `float-quantized`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Layout::Plain => "plain",
            Layout::HfFp8 => "hf-fp8",
            Layout::FloatQuantized => "float-quantized",
            Layout::IntQuantized => "int-quantized",
            Layout::PackQuantized => "pack-quantized",
            Layout::Awq => "awq",
            Layout::Gptq => "gptq",
            Layout::BitsAndBytes => "bits-and-bytes",
            Layout::Unknown => "unknown",
        }
    }
}

impl Layout {
    /// What a person would look for in the shards.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Layout::Plain => "plain numbers",
            Layout::HfFp8 => "FP8 codes with `weight_scale_inv` (layout hf-fp8)",
            Layout::FloatQuantized => "FP8 codes with `weight_scale` (layout float-quantized)",
            Layout::IntQuantized => "8-bit integers with `weight_scale` (layout int-quantized)",
            Layout::PackQuantized => "integers packed into `weight_packed` (layout pack-quantized)",
            Layout::Awq => "4-bit integers in AWQ's order (`qweight` packed along out)",
            Layout::Gptq => "4-bit integers in GPTQ's order (`qweight` packed along in)",
            Layout::BitsAndBytes => "4-bit codes of bitsandbytes (`weight.absmax`)",
            Layout::Unknown => "codes whose layout cannot be told",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which elements share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scales {
    Tensor,
    Row,
    /// Rows × columns.
    Block(usize, usize),
    /// So many elements along the input dimension.
    Group(usize),
    /// A shape that is the grid of no block.
    Odd,
}

impl fmt::Display for Scales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scales::Tensor => f.write_str("tensor"),
            Scales::Row => f.write_str("row"),
            Scales::Block(rows, cols) => write!(f, "{rows}x{cols}"),
            Scales::Group(size) => write!(f, "group {size}"),
            Scales::Odd => f.write_str("odd"),
        }
    }
}

/// The tensors of one module.
#[derive(Debug)]
pub(crate) struct Module<'a> {
    pub(crate) name: &'a str,
    /// The last part of the name → the tensor.
    pub(crate) tensors: BTreeMap<&'a str, &'a TensorInfo>,
    pub(crate) layout: Layout,
    pub(crate) scales: Option<Scales>,
    /// `[out, in]`, where the checkpoint could be opened.
    shape: Option<(usize, usize)>,
    pub(crate) role: Role,
    model_type: Option<&'a str>,
}

/// Every module that owns tensors, in natural order.
///
/// `opened` knows the shapes that the headers do not show: bitsandbytes stores its codes without them.
pub(crate) fn modules<'a>(
    inventory: &'a Inventory,
    opened: Option<&Checkpoint>,
) -> Vec<Module<'a>> {
    let model_type = inventory
        .config
        .as_ref()
        .and_then(|c| c.model_type.as_deref());
    let mut by_name: BTreeMap<Vec<(Option<u64>, &str)>, Module<'_>> = BTreeMap::new();
    for tensor in &inventory.tensors {
        let (name, leaf) = split(&tensor.name);
        let key = name.split('.').map(|c| (c.parse().ok(), c)).collect();
        let module = by_name.entry(key).or_insert_with(|| Module {
            name,
            tensors: BTreeMap::new(),
            layout: Layout::Plain,
            scales: None,
            shape: opened.and_then(|c| shape_of(c, name)),
            role: Role::Other,
            model_type,
        });
        module.tensors.insert(leaf, tensor);
    }
    let mut modules: Vec<Module<'_>> = by_name.into_values().collect();
    for module in &mut modules {
        module.layout = module.layout();
        module.scales = module.scales();
        module.role = module.role_of("weight");
    }
    modules
}

/// `[out, in]` of the module's weight in a checkpoint.
fn shape_of(checkpoint: &Checkpoint, module: &str) -> Option<(usize, usize)> {
    match *checkpoint.weight(module)?.shape {
        [rows, cols] => Some((rows, cols)),
        _ => None,
    }
}

/// Module and leaf; of bitsandbytes' `x.weight.absmax` these are `x` and `weight.absmax`.
fn split(name: &str) -> (&str, &str) {
    if let Some(at) = name.find(".weight.") {
        return (&name[..at], &name[at + 1..]);
    }
    name.rsplit_once('.').unwrap_or(("", name))
}

impl Module<'_> {
    pub(crate) fn get(&self, leaf: &str) -> Option<&TensorInfo> {
        self.tensors.get(leaf).copied()
    }

    /// The role of one of its tensors: scales and packed codes have that of the weight.
    pub(crate) fn role_of(&self, leaf: &str) -> Role {
        let quantized = self.layout != Layout::Plain;
        let (leaf, dimensions) = match leaf {
            "bias" => ("bias", 1),
            _ if quantized => ("weight", 2),
            leaf => (leaf, self.get(leaf).map_or(2, |t| t.shape.len())),
        };
        Role::of(
            &format!("{}.{leaf}", self.name),
            dimensions,
            self.model_type,
        )
    }

    /// `(rows, cols)` of the weight that the codes stand for: `[out_features, in_features]`.
    ///
    /// Packed codes are taken for those of 4 bits, eight in an I32.
    pub(crate) fn weight_shape(&self) -> Option<(usize, usize)> {
        let of = |leaf: &str| match self.get(leaf)?.shape.as_slice() {
            &[rows, cols] => Some((rows, cols)),
            _ => None,
        };
        match self.layout {
            Layout::PackQuantized => of("weight_packed").map(|(rows, cols)| (rows, cols * 8)),
            Layout::Awq => of("qweight").map(|(rows, cols)| (cols * 8, rows)),
            Layout::Gptq => of("qweight").map(|(rows, cols)| (cols, rows * 8)),
            Layout::BitsAndBytes => self.shape,
            _ => of("weight"),
        }
    }

    fn layout(&self) -> Layout {
        if self.get("weight_packed").is_some() {
            return Layout::PackQuantized;
        }
        if let Some(codes) = self.get("qweight") {
            return self.awq_or_gptq(codes);
        }
        let Some(weight) = self.get("weight") else {
            return Layout::Plain;
        };
        let has = |leaf: &str| self.tensors.contains_key(leaf);
        match weight.dtype {
            dtype if dtype.fp8_format().is_some() => {
                match (has("weight_scale_inv"), has("weight_scale")) {
                    (true, _) => Layout::HfFp8,
                    (_, true) => Layout::FloatQuantized,
                    _ => Layout::Unknown,
                }
            }
            Dtype::I8 if has("weight_scale") => Layout::IntQuantized,
            Dtype::U8 if has("weight.absmax") => Layout::BitsAndBytes,
            Dtype::I8 | Dtype::U8 => Layout::Unknown,
            _ => Layout::Plain,
        }
    }

    /// Both call the codes `qweight`; they are told apart by the dimension along which eight codes share an I32.
    fn awq_or_gptq(&self, codes: &TensorInfo) -> Layout {
        let columns = |t: &TensorInfo| t.shape.get(1).copied();
        let (packed, scales) = (columns(codes), self.get("scales").and_then(columns));
        match (packed, scales) {
            (Some(packed), Some(out)) if out == packed * 8 => Layout::Awq,
            (Some(packed), Some(out)) if out == packed => Layout::Gptq,
            _ if self.get("g_idx").is_some() => Layout::Gptq,
            _ => Layout::Unknown,
        }
    }

    fn scales(&self) -> Option<Scales> {
        if self.layout == Layout::BitsAndBytes {
            let count = |leaf| Some(self.get(leaf)?.shape.iter().product::<usize>());
            // Two codes a byte, and groups that do not end with a row.
            let (codes, scales) = (count("weight")?.checked_mul(2)?, count("weight.absmax")?);
            return Some(group(codes, scales.max(1)));
        }
        let (rows, cols) = self.weight_shape()?;
        let scales = ["weight_scale_inv", "weight_scale", "scales"]
            .iter()
            .find_map(|leaf| self.get(leaf))?;
        let shape = scales.shape.as_slice();
        Some(match (self.layout, shape) {
            (Layout::Plain, _) => return None,
            (Layout::Awq | Layout::Gptq, &[groups, _]) if groups > 0 => group(cols, groups),
            (Layout::PackQuantized, &[r, groups]) if r == rows && groups > 1 => group(cols, groups),
            (_, [] | [1] | [1, 1]) => Scales::Tensor,
            (_, &[r] | &[r, 1]) if r == rows => Scales::Row,
            (_, &[grid_rows, grid_cols]) if grid_rows > 0 && grid_cols > 0 => {
                match (step(rows, grid_rows), step(cols, grid_cols)) {
                    (Some(rows), Some(cols)) => Scales::Block(rows, cols),
                    _ => Scales::Odd,
                }
            }
            _ => Scales::Odd,
        })
    }
}

fn group(cols: usize, groups: usize) -> Scales {
    match cols.is_multiple_of(groups) {
        true => Scales::Group(cols / groups),
        false => Scales::Odd,
    }
}

/// The block length that divides `len` into `blocks`: the usual 128 if it does, else the least that does.
fn step(len: usize, blocks: usize) -> Option<usize> {
    [128, len.div_ceil(blocks)]
        .into_iter()
        .find(|&size| size > 0 && len.div_ceil(size) == blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitsandbytes_hangs_its_state_below_the_weight() {
        assert_eq!(
            split("a.q_proj.weight.absmax"),
            ("a.q_proj", "weight.absmax")
        );
        assert_eq!(split("a.q_proj.weight_scale"), ("a.q_proj", "weight_scale"));
        assert_eq!(split("alone"), ("", "alone"));
    }

    #[test]
    fn the_usual_block_is_preferred_where_several_fit() {
        assert_eq!(step(5120, 40), Some(128));
        assert_eq!(step(200, 2), Some(128));
        assert_eq!(step(5120, 80), Some(64));
        assert_eq!(step(10, 7), None);
    }
}
