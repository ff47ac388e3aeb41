//! Which quantized layout a checkpoint has: read from the configuration, then held against the tensors.

use std::path::Path;

use serde_json::{Map, Value};
use xgraft_block_scale::{BlockShape, Extent, Format};

use super::config::ModelConfig;
use crate::error::{Error, Result};
use crate::json::{Fields, brief};

/// What the configuration says about quantization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quantization {
    /// Nothing: every weight is stored in its own type.
    None,
    /// FP8 weights with scales; value = code × scale.
    Fp8 {
        /// Whose names and configuration.
        layout: Fp8Layout,
        /// The code of the weights.
        format: Format,
        /// Which elements one scale governs.
        block: BlockShape,
        /// Further block shapes, where a configuration has several groups.
        more_blocks: Vec<BlockShape>,
        /// Modules that are left unquantized, as the configuration names them; `re:` starts a regular expression.
        ignored: Vec<String>,
    },
}

/// Whose conventions an FP8 checkpoint follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fp8Layout {
    /// `quant_method: fp8`, scales in `weight_scale_inv` (which is the multiplier in spite of its name).
    Hf,
    /// `quant_method: compressed-tensors`, scales in `weight_scale`.
    CompressedTensors,
}

impl Fp8Layout {
    /// The value of `quant_method`.
    pub fn quant_method(self) -> &'static str {
        match self {
            Fp8Layout::Hf => "fp8",
            Fp8Layout::CompressedTensors => "compressed-tensors",
        }
    }

    /// The last component of the name of a tensor of scales.
    pub fn scale_suffix(self) -> &'static str {
        match self {
            Fp8Layout::Hf => "weight_scale_inv",
            Fp8Layout::CompressedTensors => "weight_scale",
        }
    }
}

impl Quantization {
    /// Reads the layout from a configuration.
    ///
    /// # Errors
    /// [`Error::UnsupportedLayout`] for a layout that is known and not readable yet, [`Error::Config`] for a
    /// configuration that contradicts itself.
    pub fn from_config(config: &ModelConfig) -> Result<Quantization> {
        let Some((name, map)) = config.quantization()? else {
            return Ok(Quantization::None);
        };
        let prefix = format!("{name}.");
        let fields = Fields {
            file: config.file(),
            prefix: &prefix,
            map,
        };
        match fields.str("quant_method")? {
            Some("fp8") => hf(fields),
            Some("compressed-tensors") => compressed_tensors(fields),
            Some(other) => Err(unsupported(config.file(), other)),
            None => Err(fields.error("quant_method", "the name of a method", "none")),
        }
    }

    /// Every block shape that a weight may have.
    pub fn blocks(&self) -> impl Iterator<Item = BlockShape> {
        let (first, more) = match self {
            Quantization::None => (None, &[][..]),
            Quantization::Fp8 {
                block, more_blocks, ..
            } => (Some(*block), more_blocks.as_slice()),
        };
        first.into_iter().chain(more.iter().copied())
    }
}

pub(crate) fn unsupported(file: &Path, layout: &str) -> Error {
    Error::UnsupportedLayout {
        file: file.to_owned(),
        layout: layout.to_owned(),
    }
}

/// **Source** `transformers`: `quantizers/quantizer_finegrained_fp8.py`; vLLM: `quantization/fp8.py`.
fn hf(fields: Fields<'_>) -> Result<Quantization> {
    let format = match fields.str("fmt")? {
        None | Some("e4m3" | "float8_e4m3fn") => Format::E4m3,
        Some("e5m2" | "float8_e5m2") => Format::E5m2,
        Some(other) => return Err(fields.error("fmt", "e4m3 or e5m2", other)),
    };
    let block = match fields.get("weight_block_size") {
        Some(value) => block_of(fields, "weight_block_size", value)?,
        None => BlockShape::TENSOR,
    };
    let mut ignored = fields
        .strings("modules_to_not_convert")?
        .unwrap_or_default();
    ignored.extend(fields.strings("ignored_layers")?.unwrap_or_default());
    Ok(Quantization::Fp8 {
        layout: Fp8Layout::Hf,
        format,
        block,
        more_blocks: Vec::new(),
        ignored,
    })
}

/// **Source** `compressed_tensors`: `quantization/quant_config.py`, `quantization/quant_args.py`.
fn compressed_tensors(fields: Fields<'_>) -> Result<Quantization> {
    let groups = fields.object("config_groups")?;
    let groups =
        groups.ok_or_else(|| fields.error("config_groups", "an object of groups", "none"))?;
    if let Some(sparse) = sparse_format(fields)? {
        return Err(unsupported(
            fields.file,
            &format!("compressed-tensors {sparse}"),
        ));
    }
    let mut blocks = Vec::new();
    for (name, group) in groups {
        let prefix = format!("{}config_groups.{name}.", fields.prefix);
        let map = group.as_object();
        let map = map.ok_or_else(|| {
            fields.error(&format!("config_groups.{name}"), "an object", brief(group))
        })?;
        let block = group_block(
            Fields {
                file: fields.file,
                prefix: &prefix,
                map,
            },
            fields,
        )?;
        if !blocks.contains(&block) {
            blocks.push(block);
        }
    }
    let mut blocks = blocks.into_iter();
    let block = blocks
        .next()
        .ok_or_else(|| fields.error("config_groups", "at least one group", "none"))?;
    Ok(Quantization::Fp8 {
        layout: Fp8Layout::CompressedTensors,
        format: Format::E4m3,
        block,
        more_blocks: blocks.collect(),
        ignored: fields.strings("ignore")?.unwrap_or_default(),
    })
}

/// The format of a sparse checkpoint, if it is one.
fn sparse_format(fields: Fields<'_>) -> Result<Option<String>> {
    let format =
        |map: &Map<String, Value>| map.get("format").and_then(Value::as_str).map(str::to_owned);
    Ok(fields
        .object("sparsity_config")?
        .and_then(format)
        .filter(|f| f != "dense"))
}

fn group_block(group: Fields<'_>, whole: Fields<'_>) -> Result<BlockShape> {
    let weights = group.object("weights")?;
    let map = weights.ok_or_else(|| group.error("weights", "the scheme of the weights", "none"))?;
    let prefix = format!("{}weights.", group.prefix);
    let weights = Fields {
        prefix: &prefix,
        map,
        ..group
    };
    let kind = (
        weights.str("type")?.unwrap_or("int"),
        weights.usize("num_bits")?.unwrap_or(8),
    );
    if kind != ("float", 8) {
        let format = group
            .str("format")?
            .or(whole.str("format")?)
            .unwrap_or("unknown format");
        let layout = format!("compressed-tensors {format} ({} {})", kind.0, kind.1);
        return Err(unsupported(group.file, &layout));
    }
    match weights.str("strategy")? {
        Some("tensor") => Ok(BlockShape::TENSOR),
        Some("channel") => Ok(BlockShape::ROW),
        Some("block") => {
            let value = weights.get("block_structure").unwrap_or(&Value::Null);
            block_of(weights, "block_structure", value)
        }
        Some("group") => {
            let size = weights
                .usize("group_size")?
                .and_then(|size| BlockShape::new(1, size));
            size.ok_or_else(|| weights.error("group_size", "a positive number", "none"))
        }
        other => Err(weights.error(
            "strategy",
            "tensor, channel, block or group",
            other.unwrap_or("none"),
        )),
    }
}

/// `[128, 128]`, or the older text `128x128`.
fn block_of(fields: Fields<'_>, field: &str, value: &Value) -> Result<BlockShape> {
    let numbers: Option<Vec<usize>> = match value {
        Value::Array(list) => list
            .iter()
            .map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()))
            .collect(),
        Value::String(text) => text.split('x').map(|n| n.parse().ok()).collect(),
        _ => None,
    };
    let block = match numbers.as_deref() {
        Some(&[rows, cols]) => BlockShape::new(rows, cols),
        _ => None,
    };
    block.ok_or_else(|| fields.error(field, "two positive numbers", brief(value)))
}

/// `128x128`, `row`, `tensor`: a block shape for messages.
pub(crate) fn block_text(block: BlockShape) -> String {
    let extent = |extent| match extent {
        Extent::Of(n) => n.to_string(),
        Extent::All => "all".to_owned(),
    };
    format!("{}x{}", extent(block.rows), extent(block.cols))
}
