//! Which layout config.json says, read without believing it.

use serde::Serialize;
use serde_json::Value;
use xgraft_checkpoint::ModelConfig;

use super::layout::{Layout, Scales};

/// What a configuration says about quantization.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Declared {
    /// `quant_method`; `None` when nothing is said to be quantized.
    pub method: Option<String>,
    /// The layouts that it stands for; empty for a method that is not known.
    pub layouts: Vec<Layout>,
    /// Which elements share a scale, if it says so: `128x128`, `row`, `tensor`, `group 128`.
    pub scales: Option<String>,
    /// Modules that are left as they are; `re:` starts a regular expression.
    pub ignored: Vec<String>,
    #[serde(skip)]
    pub(crate) geometry: Vec<Scales>,
}

impl Declared {
    /// `compressed-tensors (pack-quantized)`, or that nothing is said to be quantized.
    pub(crate) fn words(&self) -> String {
        let Some(method) = &self.method else {
            return "no quantization".to_owned();
        };
        let layouts: Vec<&str> = self.layouts.iter().map(|l| l.name()).collect();
        match layouts.is_empty() {
            true => method.clone(),
            false => format!("{method} ({})", layouts.join(", ")),
        }
    }

    pub(crate) fn of(config: &ModelConfig) -> Declared {
        let raw = config.raw();
        let quantization = ["quantization_config", "compression_config"]
            .iter()
            .find_map(|name| raw.get(*name).filter(|v| v.is_object()));
        let Some(quantization) = quantization else {
            return Declared {
                method: None,
                layouts: vec![Layout::Plain],
                scales: None,
                ignored: Vec::new(),
                geometry: Vec::new(),
            };
        };
        let method = quantization["quant_method"].as_str();
        let (layouts, geometry) = match method {
            Some("fp8") => (
                vec![Layout::HfFp8],
                vec![block(&quantization["weight_block_size"])],
            ),
            Some("compressed-tensors") => compressed_tensors(quantization),
            Some("awq") => (vec![Layout::Awq], vec![group(quantization, "q_group_size")]),
            Some("gptq") => (vec![Layout::Gptq], vec![group(quantization, "group_size")]),
            Some("rtn") => (rtn(quantization), vec![group(quantization, "group_size")]),
            Some("bitsandbytes") => (vec![Layout::BitsAndBytes], Vec::new()),
            _ => (Vec::new(), Vec::new()),
        };
        let geometry: Vec<Scales> = geometry.into_iter().flatten().collect();
        let texts: Vec<String> = geometry.iter().map(ToString::to_string).collect();
        let names = [
            "modules_to_not_convert",
            "ignored_layers",
            "ignore",
            "llm_int8_skip_modules",
        ];
        Declared {
            method: Some(method.unwrap_or("unnamed").to_owned()),
            layouts,
            scales: (!texts.is_empty()).then(|| texts.join(", ")),
            ignored: names
                .iter()
                .flat_map(|n| strings(&quantization[*n]))
                .collect(),
            geometry,
        }
    }
}

/// Each group has a format and a geometry of its own, or those of the whole.
fn compressed_tensors(quantization: &Value) -> (Vec<Layout>, Vec<Option<Scales>>) {
    let (mut layouts, mut geometry) = (Vec::new(), Vec::new());
    let groups = quantization["config_groups"].as_object();
    for scheme in groups.into_iter().flat_map(|groups| groups.values()) {
        let weights = &scheme["weights"];
        let format = scheme["format"]
            .as_str()
            .or(quantization["format"].as_str());
        let layout = match (
            format,
            weights["type"].as_str(),
            weights["num_bits"].as_u64(),
        ) {
            (Some("pack-quantized"), _, _) => Layout::PackQuantized,
            (Some("int-quantized"), _, _) | (_, Some("int"), Some(8)) => Layout::IntQuantized,
            (Some("float-quantized"), _, _) | (_, Some("float"), Some(8)) => Layout::FloatQuantized,
            (_, Some("int"), Some(_)) => Layout::PackQuantized,
            _ => Layout::Unknown,
        };
        if !layouts.contains(&layout) {
            layouts.push(layout);
        }
        geometry.push(match weights["strategy"].as_str() {
            Some("tensor") => Some(Scales::Tensor),
            Some("channel") => Some(Scales::Row),
            Some("block") => block(&weights["block_structure"]),
            Some("group") => group(weights, "group_size"),
            _ => None,
        });
    }
    (layouts, geometry)
}

/// Files of xgraft's own rounding, which name the word order that they have.
fn rtn(quantization: &Value) -> Vec<Layout> {
    match quantization["packing"].as_str() {
        Some("out-interleaved") => vec![Layout::Awq],
        Some("in-natural") => vec![Layout::Gptq],
        _ => Vec::new(),
    }
}

fn group(fields: &Value, older: &str) -> Option<Scales> {
    let size = fields["group_size"].as_i64().or(fields[older].as_i64())?;
    // -1 means one group.
    match usize::try_from(size) {
        Ok(size) => Some(Scales::Group(size)),
        Err(_) => None,
    }
}

/// `[128, 128]`, or the older text `128x128`; one scale a tensor where there is nothing.
fn block(value: &Value) -> Option<Scales> {
    let numbers: Vec<usize> = match value {
        Value::Null => return Some(Scales::Tensor),
        Value::Array(list) => list
            .iter()
            .filter_map(|n| usize::try_from(n.as_u64()?).ok())
            .collect(),
        Value::String(text) => text.split('x').filter_map(|n| n.parse().ok()).collect(),
        _ => Vec::new(),
    };
    match *numbers.as_slice() {
        [rows, cols] if rows > 0 && cols > 0 => Some(Scales::Block(rows, cols)),
        _ => None,
    }
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}
