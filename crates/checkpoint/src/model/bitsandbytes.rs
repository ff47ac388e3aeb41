//! NF4 as bitsandbytes stores it: the configuration, and the JSON that lies beside each weight as a tensor of bytes.
//!
//! The codes have lost their matrix's shape, `[out × in / 2, 1]`, so the JSON is read when a directory is opened.

use std::num::NonZeroUsize;

use serde_json::{Map, Value};
use xgraft_block_scale::{Extent, WeightDtype};

use super::packing::{Grouped, Packing};
use super::quantization::{Quantization, unsupported};
use crate::error::Result;
use crate::json::{Fields, brief};

/// Elements that share a scale, unless a weight says otherwise.
pub(crate) const USUAL_GROUP: usize = 64;

/// The last components of the tensor of the JSON, below the module.
pub(crate) const STATE: &str = "weight.quant_state.bitsandbytes__nf4";

/// No JSON is longer than this.
pub(crate) const MAX_STATE_BYTES: u64 = 4096;

/// **Source** `transformers` 5.23 `utils/quantization_config.py` (`BitsAndBytesConfig`).
pub(super) fn config(fields: Fields<'_>) -> Result<Quantization> {
    let refuse = |layout: &str| Err(unsupported(fields.file, &format!("bitsandbytes {layout}")));
    if fields.bool("load_in_8bit")?.unwrap_or(false) {
        return refuse("LLM.int8");
    }
    if !fields.bool("load_in_4bit")?.unwrap_or(false) {
        let found = fields.get("load_in_4bit").map_or("none".into(), brief);
        return Err(fields.error("load_in_4bit", "true", found));
    }
    match fields.str("bnb_4bit_quant_type")?.unwrap_or("fp4") {
        "nf4" => {}
        other => return refuse(other),
    }
    match fields.str("bnb_4bit_quant_storage")?.unwrap_or("uint8") {
        "uint8" => {}
        other => return refuse(&format!("codes stored as {other}")),
    }
    Ok(Quantization::Grouped(Grouped {
        packing: Packing::BitsAndBytes,
        bits: 4,
        group: NonZeroUsize::new(USUAL_GROUP).map_or(Extent::All, Extent::Of),
        symmetric: true,
        method: "bitsandbytes".to_owned(),
        ignored: fields.strings("llm_int8_skip_modules")?.unwrap_or_default(),
    }))
}

/// What the JSON says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct QuantState {
    /// `[out, in]`.
    pub(crate) shape: [usize; 2],
    pub(crate) group: NonZeroUsize,
    /// The type that a reader decodes to.
    pub(crate) dtype: WeightDtype,
    pub(crate) nested: Option<Nested>,
}

/// How the scales are quantized in turn: scale = map\[code\] × `nested_absmax`\[i / group\] + offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Nested {
    pub(crate) group: NonZeroUsize,
    pub(crate) offset: f32,
}

impl QuantState {
    /// # Errors
    /// What was expected, and what was found.
    ///
    /// **Source** bitsandbytes 0.50 `functional.py` (`QuantState.as_dict`).
    pub(crate) fn parse(bytes: &[u8]) -> Result<QuantState, (String, String)> {
        let map: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| ("a JSON object".to_owned(), error.to_string()))?;
        let null = Value::Null;
        let get = |field: &str| map.get(field).unwrap_or(&null);
        let wrong = |field: &str, expected: &str| {
            let found = format!("`{field}` {}", brief(get(field)));
            (expected.to_owned(), found)
        };
        let count = |field: &str| {
            let number = get(field).as_u64().and_then(|n| usize::try_from(n).ok());
            let number = number.and_then(NonZeroUsize::new);
            number.ok_or_else(|| wrong(field, "a positive number"))
        };
        let text = |field: &str, expected: &str| match get(field).as_str() {
            Some(found) if found == expected => Ok(()),
            _ => Err(wrong(field, expected)),
        };
        text("quant_type", "nf4")?;
        let dtype = get("dtype").as_str().and_then(dtype_of);
        let dtype = dtype.ok_or_else(|| wrong("dtype", "bfloat16, float16 or float32"))?;
        let side = |n: &Value| n.as_u64().and_then(|n| usize::try_from(n).ok());
        let shape = match get("shape").as_array().map(Vec::as_slice) {
            Some([out, inner]) => side(out).zip(side(inner)),
            _ => None,
        };
        let (out, inner) = shape.ok_or_else(|| wrong("shape", "two numbers"))?;
        let nested = if map.contains_key("nested_offset") {
            text("nested_dtype", "float32")?;
            let offset = get("nested_offset").as_f64().filter(|x| x.is_finite());
            Some(Nested {
                group: count("nested_blocksize")?,
                offset: offset.ok_or_else(|| wrong("nested_offset", "a number"))? as f32,
            })
        } else {
            None
        };
        Ok(QuantState {
            shape: [out, inner],
            group: count("blocksize")?,
            dtype,
            nested,
        })
    }

    /// The text of a state without nested scales, as Python's `json.dumps` writes it.
    pub(crate) fn text([out, inner]: [usize; 2], group: usize, dtype: WeightDtype) -> String {
        let dtype = DTYPES.iter().find(|(known, _)| *known == dtype);
        let dtype = dtype.map_or("float32", |(_, name)| name);
        format!(
            r#"{{"quant_type": "nf4", "blocksize": {group}, "dtype": "{dtype}", "shape": [{out}, {inner}]}}"#
        )
    }
}

const DTYPES: [(WeightDtype, &str); 3] = [
    (WeightDtype::Bf16, "bfloat16"),
    (WeightDtype::F16, "float16"),
    (WeightDtype::F32, "float32"),
];

fn dtype_of(name: &str) -> Option<WeightDtype> {
    let found = DTYPES.iter().find(|(_, known)| *known == name);
    found.map(|(dtype, _)| *dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_what_its_text_says() {
        for (dtype, _) in DTYPES {
            let text = QuantState::text([40, 256], 64, dtype);
            let state = QuantState::parse(text.as_bytes()).unwrap();
            assert_eq!(state.shape, [40, 256]);
            assert_eq!((state.group.get(), state.dtype), (64, dtype));
            assert_eq!(state.nested, None);
        }
    }

    #[test]
    fn a_state_that_lacks_something_is_refused_by_its_field() {
        let whole = r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [8, 64],
            "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}"#;
        assert!(
            QuantState::parse(whole.as_bytes())
                .unwrap()
                .nested
                .is_some()
        );
        for (from, to, field) in [
            ("\"nf4\"", "\"fp4\"", "quant_type"),
            ("64,", "0,", "blocksize"),
            ("float16", "float8", "dtype"),
            ("[8, 64]", "[512]", "shape"),
            ("256", "-1", "nested_blocksize"),
            ("float32", "float16", "nested_dtype"),
            ("0.5", "null", "nested_offset"),
        ] {
            let (_, found) = QuantState::parse(whole.replace(from, to).as_bytes()).unwrap_err();
            assert!(found.contains(field), "{found}");
        }
        assert!(QuantState::parse(b"nf4").is_err());
    }
}
