//! Quantized layouts: read, told apart, and every contradiction refused.

use half::{bf16, f16};
use safetensors::Dtype::{BF16, F8_E4M3, F8_E5M2, F8_E8M0, F16, F32};
use serde_json::{Value, json};
use xgraft_block_scale::{BlockShape, Format, ScaleDtype};
use xgraft_checkpoint::{Checkpoint, Digest, Error, Fp8Layout, Quantization, Stored};
use xgraft_cpu_gemm::Source;

use crate::support::{self, Model, Tensor, assert_says, codes, safetensors_bytes, tensor};

const MODULE: &str = "model.layers.0.self_attn.q_proj";
const ROWS: usize = 200;
const COLS: usize = 300;

fn weight() -> Tensor {
    codes(&format!("{MODULE}.weight"), &[ROWS, COLS])
}

/// Scales 1, 2, 4, ... modulo 2^7 in any type.
fn scales(leaf: &str, dtype: safetensors::Dtype, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| f32::from(1u8 << (i % 7));
    let encode = |i: usize| match dtype {
        F32 => value(i).to_le_bytes().to_vec(),
        BF16 => bf16::from_f32(value(i)).to_le_bytes().to_vec(),
        F16 => f16::from_f32(value(i)).to_le_bytes().to_vec(),
        F8_E8M0 => vec![127 + (i % 7) as u8],
        _ => unreachable!(),
    };
    tensor(
        &format!("{MODULE}.{leaf}"),
        dtype,
        shape,
        (0..count).flat_map(encode).collect(),
    )
}

fn hf() -> Value {
    json!({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]})
}

fn compressed(strategy: &str) -> Value {
    json!({
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": strategy, "block_structure": [128, 128]}
        }}
    })
}

fn model(quantization: &Value, tensors: &[Tensor]) -> Model {
    let config = json!({"model_type": "qwen3", "quantization_config": quantization});
    let model = Model::with_config(&config.to_string());
    model.file("model.safetensors", &safetensors_bytes(tensors));
    model
}

/// Loads the one weight and compares every element with code × scale by the definition.
fn check_values(checkpoint: &Checkpoint, block: BlockShape) {
    let weight = checkpoint.weight(MODULE).unwrap();
    let Stored::Fp8 {
        format,
        block: stored,
        ..
    } = &weight.stored
    else {
        panic!("{weight:?}")
    };
    assert_eq!((*format, *stored), (Format::E4m3, block));
    let (matrix, _) = checkpoint.load(weight).unwrap();
    let values = matrix.to_f32();
    let (_, grid_cols) = block.grid(ROWS, COLS);
    let expected = |row: usize, col: usize| {
        let (i, j) = block.block_of((ROWS, COLS), row, col);
        let scale = f32::from(1u8 << ((i * grid_cols + j) % 7));
        Format::E4m3.decode(((row * COLS + col) % 127) as u8) * scale
    };
    let mut strip = Vec::new();
    checkpoint.read_rows(weight, 100..150, &mut strip).unwrap();
    for row in 0..ROWS {
        for col in 0..COLS {
            assert_eq!(values[row * COLS + col], expected(row, col), "{row}, {col}");
        }
    }
    assert_eq!(strip, values[100 * COLS..150 * COLS]);
    if block == BlockShape::B128 {
        let lower = checkpoint.load_rows(weight, 128..ROWS).unwrap();
        assert_eq!(
            (lower.rows(), lower.to_f32().as_slice()),
            (72, &values[128 * COLS..])
        );
    }
}

#[test]
fn the_official_layout_reads_with_scales_of_every_type() {
    for (dtype, scale) in [
        (F32, ScaleDtype::F32),
        (BF16, ScaleDtype::Bf16),
        (F16, ScaleDtype::F16),
        (F8_E8M0, ScaleDtype::Ue8m0),
    ] {
        let model = model(
            &hf(),
            &[weight(), scales("weight_scale_inv", dtype, &[2, 3])],
        );
        let checkpoint = model.open();
        let Quantization::Fp8 { layout, block, .. } = checkpoint.quantization() else {
            panic!()
        };
        assert_eq!((*layout, *block), (Fp8Layout::Hf, BlockShape::B128));
        assert_eq!(checkpoint.weights().len(), 1);
        let Stored::Fp8 { scale: stored, .. } = checkpoint.weights()[0].stored else {
            panic!()
        };
        assert_eq!(stored, scale);
        check_values(&checkpoint, BlockShape::B128);
    }
}

#[test]
fn compressed_tensors_reads_blocks_channels_and_tensors() {
    for (strategy, block, shapes) in [
        ("block", BlockShape::B128, vec![vec![2, 3]]),
        ("channel", BlockShape::ROW, vec![vec![ROWS, 1], vec![ROWS]]),
        (
            "tensor",
            BlockShape::TENSOR,
            vec![vec![1], vec![], vec![1, 1]],
        ),
    ] {
        for shape in shapes {
            let model = model(
                &compressed(strategy),
                &[weight(), scales("weight_scale", BF16, &shape)],
            );
            check_values(&model.open(), block);
        }
    }
}

#[test]
fn one_scale_a_tensor_under_fp8_may_have_either_name() {
    let quantization = json!({"quant_method": "fp8", "activation_scheme": "dynamic"});
    for leaf in ["weight_scale", "weight_scale_inv"] {
        let model = model(&quantization, &[weight(), scales(leaf, F32, &[])]);
        check_values(&model.open(), BlockShape::TENSOR);
    }
}

#[test]
fn groups_with_different_blocks_are_told_apart_by_their_scales() {
    let mut quantization = compressed("channel");
    quantization["config_groups"]["group_1"] =
        compressed("block")["config_groups"]["group_0"].clone();
    let up = "model.layers.0.mlp.up_proj";
    let model = model(
        &quantization,
        &[
            weight(),
            scales("weight_scale", BF16, &[2, 3]),
            codes(&format!("{up}.weight"), &[10, 20]),
            tensor(&format!("{up}.weight_scale"), BF16, &[10, 1], vec![0; 20]),
        ],
    );
    let checkpoint = model.open();
    let block = |module: &str| match checkpoint.weight(module).unwrap().stored {
        Stored::Fp8 { block, .. } => block,
        Stored::Plain(_) | Stored::Grouped(_) => panic!(),
    };
    assert_eq!(
        (block(MODULE), block(up)),
        (BlockShape::B128, BlockShape::ROW)
    );
}

#[test]
fn the_digest_is_of_the_digests_of_codes_and_scales() {
    let (w, s) = (weight(), scales("weight_scale_inv", F32, &[2, 3]));
    let both = Digest::of_all(&[Digest::of(&w.bytes), Digest::of(&s.bytes)]);
    let checkpoint = model(&hf(), &[w, s]).open();
    let (_, digest) = checkpoint.load(checkpoint.weight(MODULE).unwrap()).unwrap();
    assert_eq!(digest, both);
}

#[test]
fn codes_without_scales_are_refused() {
    let error = model(&hf(), &[weight()]).error();
    assert_says(
        &error,
        &[
            "model.safetensors",
            MODULE,
            "weight_scale_inv",
            "found none",
        ],
    );
    assert!(error.hint().is_some());
}

#[test]
fn scales_under_the_name_of_another_layout_are_refused() {
    let error = model(&hf(), &[weight(), scales("weight_scale", F32, &[2, 3])]).error();
    assert_says(&error, &["weight_scale_inv", "another layout"]);
    let error = model(
        &compressed("block"),
        &[weight(), scales("weight_scale_inv", F32, &[2, 3])],
    )
    .error();
    assert_says(&error, &["weight_scale`", "another layout"]);
}

#[test]
fn scales_of_a_wrong_geometry_are_refused_with_both_shapes() {
    for shape in [
        vec![3, 2],
        vec![2, 2],
        vec![1],
        vec![ROWS, 1],
        vec![2, 3, 1],
    ] {
        let error = model(&hf(), &[weight(), scales("weight_scale_inv", F32, &shape)]).error();
        let found = format!("found shape {shape:?}");
        assert_says(&error, &["weight_scale_inv", "[2, 3]", "128x128", &found]);
    }
}

#[test]
fn scales_of_a_wrong_type_are_refused() {
    let scales = codes(&format!("{MODULE}.weight_scale_inv"), &[2, 3]);
    let error = model(&hf(), &[weight(), scales]).error();
    assert_says(&error, &["weight_scale_inv"]);
}

#[test]
fn scales_without_codes_are_refused() {
    let plain = support::bf16(&format!("{MODULE}.weight"), &[ROWS, COLS]);
    let error = model(&hf(), &[plain, scales("weight_scale_inv", F32, &[2, 3])]).error();
    assert_says(&error, &["weight_scale_inv", "FP8 codes", "found BF16"]);
    let error = model(&hf(), &[scales("weight_scale_inv", F32, &[2, 3])]).error();
    assert_says(&error, &["weight_scale_inv", "no such tensor"]);
}

#[test]
fn codes_that_the_configuration_does_not_know_are_refused() {
    let model = Model::single(&[weight(), scales("weight_scale_inv", F32, &[2, 3])]);
    assert_says(
        &model.error(),
        &[MODULE, "F8_E4M3", "no quantization_config"],
    );
}

#[test]
fn a_configuration_without_codes_is_refused() {
    let plain = support::bf16("model.norm.weight", &[4]);
    assert_says(
        &model(&hf(), &[plain]).error(),
        &[
            "config.json",
            "quantization_config",
            "no tensor holds codes",
        ],
    );
}

#[test]
fn a_linear_that_is_neither_quantized_nor_listed_is_refused() {
    let up = support::bf16("model.layers.0.mlp.up_proj.weight", &[4, 4]);
    let tensors = [weight(), scales("weight_scale_inv", F32, &[2, 3]), up];
    let error = model(&hf(), &tensors).error();
    assert_says(&error, &["mlp.up_proj.weight", "BF16"]);
    for entry in [
        "model.layers.0.mlp.up_proj",
        "mlp.up_proj",
        "mlp",
        "re:.*up_proj$",
    ] {
        let mut quantization = hf();
        quantization["modules_to_not_convert"] = json!(["lm_head", entry]);
        model(&quantization, &tensors).open();
    }
}

#[test]
fn a_module_that_is_listed_as_unquantized_and_is_quantized_is_refused() {
    let mut quantization = hf();
    quantization["modules_to_not_convert"] = json!([MODULE]);
    let error = model(
        &quantization,
        &[weight(), scales("weight_scale_inv", F32, &[2, 3])],
    )
    .error();
    assert_says(&error, &[MODULE, "lists its module"]);
}

#[test]
fn codes_of_another_format_than_configured_are_refused() {
    let e5m2 = tensor(
        &format!("{MODULE}.weight"),
        F8_E5M2,
        &[ROWS, COLS],
        vec![0; ROWS * COLS],
    );
    let error = model(&hf(), &[e5m2, scales("weight_scale_inv", F32, &[2, 3])]).error();
    assert_says(&error, &[MODULE, "F8_E5M2"]);
}

#[test]
fn codes_that_are_no_matrix_are_refused() {
    let stacked = tensor("experts.weight", F8_E4M3, &[2, 2, 2], vec![0; 8]);
    assert_says(
        &model(&hf(), &[stacked]).error(),
        &["experts.weight", "two dimensions", "[2, 2, 2]"],
    );
}

#[test]
fn layouts_that_are_not_readable_yet_are_named() {
    let group = |weights: Value| json!({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"g": {"targets": ["Linear"], "weights": weights}}});
    let mixed = json!({"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": {
        "a": {"format": "pack-quantized", "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}},
        "b": {"format": "float-quantized", "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}},
    }});
    for (quantization, layout) in [
        (
            json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}),
            "AWQ version gemv",
        ),
        (
            json!({"quant_method": "gptq", "bits": 3, "group_size": 128}),
            "GPTQ of 3 bits",
        ),
        (
            json!({"quant_method": "bitsandbytes", "load_in_8bit": true}),
            "bitsandbytes LLM.int8",
        ),
        (mixed, "integers and FP8 in one checkpoint"),
        (
            group(json!({"num_bits": 4, "type": "float", "strategy": "tensor_group"})),
            "compressed-tensors pack-quantized (float 4)",
        ),
    ] {
        let error = model(&quantization, &[]).error();
        assert!(matches!(error, Error::UnsupportedLayout { .. }), "{error}");
        assert_says(&error, &["config.json", layout, "not supported yet"]);
        assert!(error.hint().is_some());
    }
    let packed = tensor("q.qweight", safetensors::Dtype::I32, &[1], vec![0; 4]);
    assert_says(
        &Model::single(&[packed]).error(),
        &["q.qweight", "packed integers", "no quantization_config"],
    );
}

#[test]
fn packed_integers_that_do_not_fit_are_refused() {
    use safetensors::Dtype::{F16, I32};
    let awq = json!({"quant_method": "awq", "bits": 4, "group_size": 8, "zero_point": true});
    let halves = |x: f32, n: usize| f16::from_f32(x).to_le_bytes().repeat(n);
    // [out, in] = [16, 8]: one group.
    let qweight = || tensor(&format!("{MODULE}.qweight"), I32, &[8, 2], vec![0; 64]);
    let qzeros = || tensor(&format!("{MODULE}.qzeros"), I32, &[1, 2], vec![0; 8]);
    let scales = |x| tensor(&format!("{MODULE}.scales"), F16, &[1, 16], halves(x, 16));
    let error_of = |quantization: &Value, tensors: &[_]| model(quantization, tensors).error();
    assert_says(
        &error_of(&awq, &[qweight(), qzeros()]),
        &[MODULE, "its scales in", "none"],
    );
    assert_says(
        &error_of(&awq, &[qweight(), scales(1.0)]),
        &[MODULE, "zero points in", "none"],
    );
    let short = tensor(&format!("{MODULE}.qzeros"), I32, &[1, 1], vec![0; 4]);
    assert_says(
        &error_of(&awq, &[qweight(), short, scales(1.0)]),
        &["qzeros", "[1, 2]", "[1, 1]"],
    );
    let groups_of_3 = json!({"quant_method": "awq", "bits": 4, "group_size": 3});
    assert_says(
        &error_of(&groups_of_3, &[qweight(), qzeros(), scales(1.0)]),
        &["qweight", "groups of 3 divide", "8 columns"],
    );
    let checkpoint = model(&awq, &[qweight(), qzeros(), scales(0.0)]).open();
    let error = checkpoint.load(&checkpoint.weights()[0]).unwrap_err();
    assert_says(
        &error,
        &["scales", "a scale above 0", "0 at row 0, group 0"],
    );
}

#[test]
fn a_configuration_that_makes_no_sense_names_the_field() {
    for (quantization, field) in [
        (
            json!({"quant_method": "fp8", "weight_block_size": [128]}),
            "quantization_config.weight_block_size",
        ),
        (
            json!({"quant_method": "fp8", "weight_block_size": [0, 128]}),
            "quantization_config.weight_block_size",
        ),
        (
            json!({"quant_method": "fp8", "fmt": "e3m4"}),
            "quantization_config.fmt",
        ),
        (json!({"bits": 8}), "quantization_config.quant_method"),
        (
            json!({"quant_method": "compressed-tensors"}),
            "config_groups",
        ),
        (
            json!({"quant_method": "compressed-tensors", "config_groups": {}}),
            "config_groups",
        ),
        (
            json!({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": null}}}),
            "config_groups.g.weights",
        ),
        (
            compressed("token"),
            "config_groups.group_0.weights.strategy",
        ),
    ] {
        assert_says(&model(&quantization, &[]).error(), &["config.json", field]);
    }
}

#[test]
fn nan_codes_are_named_with_row_and_column() {
    for code in [0x7f, 0xff] {
        let mut w = weight();
        w.bytes[150 * COLS + 7] = code;
        let checkpoint = model(&hf(), &[w, scales("weight_scale_inv", F32, &[2, 3])]).open();
        let weight = checkpoint.weight(MODULE).unwrap();
        let error = checkpoint.load(weight).unwrap_err();
        assert_says(&error, &[MODULE, "NaN", "row 150, column 7"]);
        let error = checkpoint
            .read_rows(weight, 140..160, &mut Vec::new())
            .unwrap_err();
        assert_says(&error, &["row 150, column 7"]);
    }
}

#[test]
fn a_zero_scale_is_refused_where_it_hides_codes() {
    let named = |of: [f32; 6]| support::f32(&format!("{MODULE}.weight_scale_inv"), &[2, 3], &of);
    let checkpoint = |codes: Tensor, scales: Tensor| model(&hf(), &[codes, scales]).open();
    let scales = || named([1.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
    let hidden = checkpoint(weight(), scales());
    let error = hidden.load(&hidden.weights()[0]).unwrap_err();
    assert_says(
        &error,
        &[
            "weight_scale_inv",
            "a scale above 0",
            "0 at row 1, column 1",
        ],
    );
    // A block of zeros may have it: a tool that divides by it writes it so.
    let mut zeros = weight();
    for row in 128..ROWS {
        zeros.bytes[row * COLS + 128..row * COLS + 256].fill(0x80);
    }
    let harmless = checkpoint(zeros, scales());
    assert!(harmless.load(&harmless.weights()[0]).is_ok());
    let negative = checkpoint(weight(), named([1.0, -1.0, 1.0, 1.0, 1.0, 1.0]));
    let error = negative.load(&negative.weights()[0]).unwrap_err();
    assert_says(&error, &["a scale above 0", "-1 at row 0, column 1"]);
}

#[test]
fn a_scale_that_is_no_number_is_named() {
    for bad in [f32::NAN, f32::INFINITY, 1e37] {
        let name = format!("{MODULE}.weight_scale_inv");
        let scales = support::f32(&name, &[2, 3], &[1.0, 1.0, 1.0, 1.0, bad, 1.0]);
        let checkpoint = model(&hf(), &[weight(), scales]).open();
        let error = checkpoint
            .load(checkpoint.weight(MODULE).unwrap())
            .unwrap_err();
        assert_says(&error, &["weight_scale_inv", "row 1, column 1"]);
    }
}
