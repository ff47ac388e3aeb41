//! Byte for byte what compressed-tensors and torch made of the same matrices.

use std::{collections::BTreeMap, fs, path::PathBuf};

use half::{bf16, f16};
use serde_json::Value;
use xgraft_block_scale::{
    Arithmetic, BlockShape, Format, QuantizedMatrix, Recipe, Rows, ScaleDtype, WeightDtype,
    dequantize_rows, quantize_rows,
};

/// A tensor of the golden file.
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn tensors() -> BTreeMap<String, Tensor> {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = crate_dir.join("../../fixtures/golden/block.safetensors");
    let file = fs::read(path).expect("golden file");
    let (length, rest) = file.split_first_chunk().expect("header length");
    let length = usize::try_from(u64::from_le_bytes(*length)).expect("header length");
    let (header, data) = rest.split_at(length);
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).expect("header");
    let number = |value: &Value| usize::try_from(value.as_u64().expect("number")).expect("number");
    let tensor = |info: &Value| Tensor {
        dtype: info["dtype"].as_str().expect("dtype").to_owned(),
        shape: info["shape"]
            .as_array()
            .expect("shape")
            .iter()
            .map(number)
            .collect(),
        bytes: data[number(&info["data_offsets"][0])..number(&info["data_offsets"][1])].to_vec(),
    };
    let named = header.iter().filter(|(name, _)| *name != "__metadata__");
    named
        .map(|(name, info)| (name.clone(), tensor(info)))
        .collect()
}

/// Weights of any type.
enum Weights {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
}

impl Weights {
    fn of(tensor: &Tensor) -> Self {
        let words = || tensor.bytes.as_chunks().0.iter().copied();
        match tensor.dtype.as_str() {
            "F32" => Self::F32(
                tensor
                    .bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b))
                    .collect(),
            ),
            "BF16" => Self::Bf16(words().map(bf16::from_le_bytes).collect()),
            "F16" => Self::F16(words().map(f16::from_le_bytes).collect()),
            other => panic!("weights of {other}"),
        }
    }

    fn rows(&self) -> Rows<'_> {
        match self {
            Self::F32(data) => data.as_slice().into(),
            Self::Bf16(data) => data.as_slice().into(),
            Self::F16(data) => data.as_slice().into(),
        }
    }
}

/// The recipe of a column of the golden file, and the name of its scales.
fn recipe(column: &str, weights: WeightDtype) -> (Recipe, &'static str) {
    let same = match weights {
        WeightDtype::F32 => ScaleDtype::F32,
        WeightDtype::Bf16 => ScaleDtype::Bf16,
        WeightDtype::F16 => ScaleDtype::F16,
    };
    let compressed_tensors = |block| Recipe {
        format: Format::E4m3,
        block,
        scale: same,
        arithmetic: Arithmetic::CompressedTensors,
    };
    match column {
        "block" => (compressed_tensors(BlockShape::B128), "weight_scale"),
        "channel" => (compressed_tensors(BlockShape::ROW), "weight_scale"),
        "tensor" => (compressed_tensors(BlockShape::TENSOR), "weight_scale"),
        "hf_f32" => (
            Recipe::f32(BlockShape::B128, ScaleDtype::F32),
            "weight_scale_inv",
        ),
        "hf_bf16" => (
            Recipe::f32(BlockShape::B128, ScaleDtype::Bf16),
            "weight_scale_inv",
        ),
        other => panic!("column {other}"),
    }
}

fn quantize(weights: &Weights, shape: (usize, usize), recipe: &Recipe) -> QuantizedMatrix {
    let mut codes = vec![0; shape.0 * shape.1];
    let mut scales = vec![0.0; recipe.block.count(shape.0, shape.1)];
    quantize_rows(weights.rows(), shape.1, recipe, &mut codes, &mut scales)
        .expect("finite weights");
    QuantizedMatrix::new(shape, recipe.format, recipe.block, codes, scales).expect("a matrix")
}

#[test]
fn every_golden_matrix_is_quantized_to_the_same_bytes() {
    let tensors = tensors();
    let mut compared = 0;
    for (name, expected) in &tensors {
        let Some(column) = name.strip_suffix(".weight") else {
            continue;
        };
        let (case, column) = column.split_once('.').expect("case and column");
        let input = &tensors[&format!("{case}.input")];
        let shape = (input.shape[0], input.shape[1]);
        let weights = Weights::of(input);
        let (recipe, scale_name) = recipe(column, weights.rows().dtype());

        let quantized = quantize(&weights, shape, &recipe);
        let mut scales = Vec::new();
        recipe.scale.write(&quantized.scales, &mut scales);
        let expected_scales = &tensors[&format!("{case}.{column}.{scale_name}")];
        assert_eq!(expected_scales.dtype, recipe.scale.to_string(), "{name}");
        assert!(scales == expected_scales.bytes, "scales of {name}");
        let differs = quantized
            .codes
            .iter()
            .zip(&expected.bytes)
            .position(|(a, b)| a != b);
        assert_eq!(differs, None, "code of {name}");
        assert_eq!(quantized.codes.len(), expected.bytes.len());
        assert_eq!(recipe.scale.read(&expected_scales.bytes), quantized.scales);
        compared += 1;
    }
    assert!(compared >= 24, "{compared} columns");
}

#[test]
fn every_golden_matrix_is_dequantized_to_the_same_bytes() {
    let tensors = tensors();
    let mut compared = 0;
    for (name, expected) in &tensors {
        let Some(column) = name.strip_suffix(".dequantized") else {
            continue;
        };
        let (case, column) = column.split_once('.').expect("case and column");
        let weights = Weights::of(&tensors[&format!("{case}.input")]);
        let shape = (expected.shape[0], expected.shape[1]);
        let quantized = quantize(&weights, shape, &recipe(column, weights.rows().dtype()).0);
        let bytes: Vec<u8> = match weights.rows().dtype() {
            WeightDtype::Bf16 => {
                let mut values = vec![bf16::ZERO; quantized.codes.len()];
                dequantize_rows(quantized.as_rows(), values.as_mut_slice());
                values.iter().flat_map(|x| x.to_le_bytes()).collect()
            }
            dtype => {
                let mut values = vec![0.0; quantized.codes.len()];
                dequantize_rows(quantized.as_rows(), values.as_mut_slice());
                match dtype {
                    WeightDtype::F16 => values
                        .iter()
                        .flat_map(|&x| f16::from_f32(x).to_le_bytes())
                        .collect(),
                    _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
                }
            }
        };
        assert!(bytes == expected.bytes, "{name}");
        compared += 1;
    }
    assert!(compared >= 8, "{compared} columns");
}
