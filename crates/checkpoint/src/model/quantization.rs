//! Which quantized layout a checkpoint has: read from the configuration, then held against the tensors.

use std::num::NonZeroUsize;
use std::path::Path;

use serde_json::{Map, Value};
use xgraft_block_scale::{BlockShape, Extent, Format};

use super::bitsandbytes;
use super::config::ModelConfig;
use super::packing::{Grouped, Packing};
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
    /// Integers with a scale, and perhaps a zero point, for each group of a row.
    Grouped(Grouped),
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
            Some("awq") => awq(fields),
            Some("gptq") => gptq(fields),
            Some("rtn") => rtn(fields),
            Some("bitsandbytes") => bitsandbytes::config(fields),
            Some(other) => Err(unsupported(config.file(), other)),
            None => Err(fields.error("quant_method", "the name of a method", "none")),
        }
    }

    /// Every block shape that a weight may have.
    pub fn blocks(&self) -> impl Iterator<Item = BlockShape> {
        let (first, more) = match self {
            Quantization::None | Quantization::Grouped(_) => (None, &[][..]),
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
    let ignored = fields.strings("ignore")?.unwrap_or_default();
    let mut blocks = Vec::new();
    let mut grouped: Option<Grouped> = None;
    for (name, group) in groups {
        let prefix = format!("{}config_groups.{name}.", fields.prefix);
        let map = group.as_object();
        let map = map.ok_or_else(|| {
            fields.error(&format!("config_groups.{name}"), "an object", brief(group))
        })?;
        let group = Fields {
            file: fields.file,
            prefix: &prefix,
            map,
        };
        match group_scheme(group, fields, &ignored)? {
            Scheme::Blocks(block) if !blocks.contains(&block) => blocks.push(block),
            Scheme::Blocks(_) => {}
            Scheme::Grouped(found) => match &grouped {
                Some(first) if *first != found => {
                    let layout = "compressed-tensors with groups of different integers";
                    return Err(unsupported(fields.file, layout));
                }
                _ => grouped = Some(found),
            },
        }
    }
    match grouped {
        Some(grouped) if blocks.is_empty() => return Ok(Quantization::Grouped(grouped)),
        Some(_) => {
            let layout = "compressed-tensors with integers and FP8 in one checkpoint";
            return Err(unsupported(fields.file, layout));
        }
        None => {}
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
        ignored,
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

/// What a group of the configuration says of the weights.
enum Scheme {
    Blocks(BlockShape),
    Grouped(Grouped),
}

fn group_scheme(group: Fields<'_>, whole: Fields<'_>, ignored: &[String]) -> Result<Scheme> {
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
        let packing = match (format, kind) {
            ("int-quantized" | "naive-quantized", ("int", 8)) => Some(Packing::Bytes),
            ("pack-quantized", ("int", 4 | 8)) => Some(Packing::Rows),
            _ => None,
        };
        if let Some(packing) = packing {
            return Ok(Scheme::Grouped(Grouped {
                packing,
                bits: kind.1 as u8,
                group: group_extent(weights)?,
                symmetric: weights.bool("symmetric")?.unwrap_or(true),
                method: Fp8Layout::CompressedTensors.quant_method().to_owned(),
                ignored: ignored.to_vec(),
            }));
        }
        let layout = format!("compressed-tensors {format} ({} {})", kind.0, kind.1);
        return Err(unsupported(group.file, &layout));
    }
    match weights.str("strategy")? {
        Some("tensor") => Ok(Scheme::Blocks(BlockShape::TENSOR)),
        Some("channel") => Ok(Scheme::Blocks(BlockShape::ROW)),
        Some("block") => {
            let value = weights.get("block_structure").unwrap_or(&Value::Null);
            block_of(weights, "block_structure", value).map(Scheme::Blocks)
        }
        Some("group") => {
            let size = weights
                .usize("group_size")?
                .and_then(|size| BlockShape::new(1, size));
            size.map(Scheme::Blocks)
                .ok_or_else(|| weights.error("group_size", "a positive number", "none"))
        }
        other => Err(weights.error(
            "strategy",
            "tensor, channel, block or group",
            other.unwrap_or("none"),
        )),
    }
}

/// The group of integer weights: the strategy, or what the size alone says.
fn group_extent(weights: Fields<'_>) -> Result<Extent> {
    match weights.str("strategy")? {
        Some("channel" | "tensor") => Ok(Extent::All),
        Some("group") | None => group_size(weights, "group_size"),
        Some(other) => Err(weights.error("strategy", "group, channel or tensor", other)),
    }
}

/// A group size; -1 is a whole row.
fn group_size(fields: Fields<'_>, field: &str) -> Result<Extent> {
    let Some(value) = fields.get(field) else {
        return Err(fields.error(field, "a positive number, or -1 for a whole row", "none"));
    };
    let size = value
        .as_u64()
        .and_then(|n| NonZeroUsize::new(usize::try_from(n).ok()?));
    match (value.as_i64(), size) {
        (Some(-1), _) => Ok(Extent::All),
        (_, Some(size)) => Ok(Extent::Of(size)),
        _ => Err(fields.error(
            field,
            "a positive number, or -1 for a whole row",
            brief(value),
        )),
    }
}

/// The first of several spellings that is there.
fn spelled<'a>(fields: Fields<'_>, spellings: [&'a str; 2]) -> &'a str {
    let there = spellings
        .into_iter()
        .find(|field| fields.get(field).is_some());
    there.unwrap_or(spellings[0])
}

fn four_bits(fields: Fields<'_>, field: &str, method: &str) -> Result<u8> {
    match fields.usize(field)? {
        Some(4) => Ok(4),
        Some(bits) => Err(unsupported(
            fields.file,
            &format!("{method} of {bits} bits"),
        )),
        None => Err(fields.error(field, "4", "none")),
    }
}

/// **Source** `AutoAWQ` 0.2 `awq/models/_config.py`; vLLM `quantization/awq.py`.
fn awq(fields: Fields<'_>) -> Result<Quantization> {
    let version = fields.str("version")?.unwrap_or("gemm");
    if !version.eq_ignore_ascii_case("gemm") {
        return Err(unsupported(fields.file, &format!("AWQ version {version}")));
    }
    Ok(Quantization::Grouped(Grouped {
        packing: Packing::Awq,
        bits: four_bits(fields, spelled(fields, ["bits", "w_bit"]), "AWQ")?,
        group: group_size(fields, spelled(fields, ["group_size", "q_group_size"]))?,
        symmetric: false,
        method: "awq".to_owned(),
        ignored: fields
            .strings("modules_to_not_convert")?
            .unwrap_or_default(),
    }))
}

/// **Source** vLLM `quantization/gptq.py`; GPTQModel `quantization/config.py` (`checkpoint_format`).
fn gptq(fields: Fields<'_>) -> Result<Quantization> {
    let zeros_less_one = match fields.str("checkpoint_format")?.unwrap_or("gptq") {
        "gptq" => true,
        "gptq_v2" => false,
        other => return Err(unsupported(fields.file, &format!("GPTQ format {other}"))),
    };
    Ok(Quantization::Grouped(Grouped {
        packing: Packing::Gptq { zeros_less_one },
        bits: four_bits(fields, "bits", "GPTQ")?,
        group: group_size(fields, "group_size")?,
        symmetric: false,
        method: "gptq".to_owned(),
        ignored: fields
            .strings("modules_to_not_convert")?
            .unwrap_or_default(),
    }))
}

/// Rounded to nearest by xgraft, in the word order of another tool: such a file does not carry that tool's name.
fn rtn(fields: Fields<'_>) -> Result<Quantization> {
    let packing = match fields.str("packing")? {
        Some("out-interleaved") => Packing::Awq,
        Some("in-natural") => Packing::Gptq {
            zeros_less_one: false,
        },
        other => {
            let found = other.unwrap_or("none");
            return Err(fields.error("packing", "out-interleaved or in-natural", found));
        }
    };
    Ok(Quantization::Grouped(Grouped {
        packing,
        bits: four_bits(fields, "bits", "rtn")?,
        group: group_size(fields, "group_size")?,
        symmetric: false,
        method: "rtn".to_owned(),
        ignored: fields
            .strings("modules_to_not_convert")?
            .unwrap_or_default(),
    }))
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
