//! bitsandbytes NF4: what contradicts itself is refused by the tensor that does.

use safetensors::Dtype::{BF16, F32, U8};
use serde_json::{Value, json};
use xgraft_checkpoint::{Checkpoint, Error, Stored};

use crate::support::{self, Model, Tensor, assert_says, safetensors_bytes, tensor};

const MODULE: &str = "model.layers.0.self_attn.q_proj";
const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

fn config() -> Value {
    json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"})
}

fn state(text: &str) -> Tensor {
    let name = format!("{MODULE}.weight.quant_state.bitsandbytes__nf4");
    tensor(&name, U8, &[text.len()], text.as_bytes().to_vec())
}

const STATE: &str =
    r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [2, 64]}"#;

/// `[2, 64]`: the first row all 1, the second 0 but for its first element.
fn whole() -> Vec<Tensor> {
    let mut codes = vec![0xff; 32];
    codes.extend([0x07; 1]);
    codes.extend([0x77; 31]);
    vec![
        tensor(&format!("{MODULE}.weight"), U8, &[64, 1], codes),
        support::f32(&format!("{MODULE}.weight.absmax"), &[2], &[1.0, 4.0]),
        support::f32(&format!("{MODULE}.weight.quant_map"), &[16], &LEVELS),
        state(STATE),
    ]
}

fn model(quantization: &Value, tensors: &[Tensor]) -> Model {
    let config = json!({"model_type": "qwen3", "quantization_config": quantization});
    let model = Model::with_config(&config.to_string());
    model.file("model.safetensors", &safetensors_bytes(tensors));
    model
}

/// The error of a checkpoint of which one tensor is another, on opening or else on loading.
fn error_with(other: Tensor) -> Error {
    let mut tensors = whole();
    let at = tensors.iter().position(|t| t.name == other.name).unwrap();
    tensors[at] = other;
    let model = model(&config(), &tensors);
    match Checkpoint::open(model.temp.path()) {
        Err(error) => error,
        Ok(checkpoint) => checkpoint.load(&checkpoint.weights()[0]).unwrap_err(),
    }
}

#[test]
fn the_first_code_of_a_byte_is_the_first_element() {
    let checkpoint = model(&config(), &whole()).open();
    let [weight] = checkpoint.weights() else {
        panic!("{:?}", checkpoint.weights())
    };
    assert!(matches!(weight.stored, Stored::Grouped(_)));
    assert_eq!(weight.shape, [2, 64]);
    let values = checkpoint.load(weight).unwrap().0.to_f32();
    assert_eq!(values[..64], [1.0; 64]);
    assert_eq!(values[64], -4.0);
    assert_eq!(values[65..], [0.0; 63]);
    assert_eq!(
        checkpoint.load_rows(weight, 1..2).unwrap().to_f32(),
        values[64..]
    );
}

#[test]
fn a_group_of_zeros_has_the_scale_zero() {
    let mut tensors = whole();
    tensors[1] = support::f32(&format!("{MODULE}.weight.absmax"), &[2], &[0.0, 4.0]);
    let checkpoint = model(&config(), &tensors).open();
    let values = checkpoint
        .load(&checkpoint.weights()[0])
        .unwrap()
        .0
        .to_f32();
    assert_eq!(values[..64], [0.0; 64]);
}

#[test]
fn a_part_that_does_not_fit_is_named() {
    let named = |leaf: &str| format!("{MODULE}.{leaf}");
    for (other, says) in [
        (
            tensor(&named("weight"), U8, &[63, 1], vec![0; 63]),
            &["q_proj.weight`", "64 bytes of codes", "found 63"][..],
        ),
        (
            support::f32(&named("weight.absmax"), &[3], &[1.0; 3]),
            &["weight.absmax", "2 scales in F32", "found 3"],
        ),
        (
            tensor(&named("weight.absmax"), U8, &[2], vec![0; 2]),
            &["weight.absmax", "2 scales in F32", "2 in U8"],
        ),
        (
            support::f32(&named("weight.absmax"), &[2], &[1.0, f32::NAN]),
            &["q_proj.weight`", "NaN"],
        ),
        (
            support::f32(&named("weight.absmax"), &[2], &[1.0, -4.0]),
            &["weight.absmax", "a scale above 0", "-4 at row 1"],
        ),
        (
            support::f32(&named("weight.absmax"), &[2], &[1.0, 0.0]),
            &["weight.absmax", "a scale above 0", "0 at row 1"],
        ),
        (
            support::f32(&named("weight.quant_map"), &[16], &[0.5; 16]),
            &["weight.quant_map", "sixteen levels of NF4", "0.5"],
        ),
        (
            support::f32(&named("weight.quant_map"), &[8], &[0.5; 8]),
            &["weight.quant_map", "16 levels", "found 8"],
        ),
        (
            state(&STATE.replace("[2, 64]", "[4, 32]")),
            &["q_proj.weight`", "groups of 64 divide", "32 columns"],
        ),
        (
            state(&STATE.replace("[2, 64]", "[9223372036854775807, 64]")),
            &["q_proj.weight`", "found 64"],
        ),
        (
            state(&STATE.replace("64,", "0,")),
            &["quant_state", "positive number", "`blocksize` 0"],
        ),
        (
            state(&STATE.replace("nf4", "fp4")),
            &["quant_state", "nf4", "`quant_type` \"fp4\""],
        ),
        (
            state(&" ".repeat(5000)),
            &["quant_state", "at most 4096", "5000"],
        ),
        (
            state(&STATE.replace(
                '}',
                r#", "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}"#,
            )),
            &["weight.absmax", "2 codes of scales in U8", "2 in F32"],
        ),
    ] {
        assert_says(&error_with(other), says);
    }
}

#[test]
fn a_part_that_is_missing_is_named() {
    for (at, name) in [
        (1, "weight.absmax"),
        (2, "weight.quant_map"),
        (3, "weight.quant_state"),
    ] {
        let mut tensors = whole();
        tensors.remove(at);
        assert_says(&model(&config(), &tensors).error(), &[MODULE, name, "none"]);
    }
}

#[test]
fn a_configuration_that_says_something_else_is_refused() {
    let plain = support::bf16("lm_head.weight", &[2, 2]);
    let tensors = [whole(), vec![plain]].concat();
    let says = |quantization: Value, parts: &[&str]| {
        assert_says(&model(&quantization, &tensors).error(), parts);
    };
    says(
        json!({"quant_method": "fp8", "weight_block_size": [128, 128]}),
        &[
            "quant_state",
            "fits quant_method `fp8`",
            "bitsandbytes' NF4",
        ],
    );
    says(
        json!({"quant_method": "bitsandbytes", "load_in_8bit": true}),
        &["bitsandbytes LLM.int8", "not supported yet"],
    );
    says(
        json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
        &["bitsandbytes fp4", "not supported yet"],
    );
    says(
        json!({"quant_method": "bitsandbytes"}),
        &["quantization_config.load_in_4bit", "expected true", "none"],
    );
    let mut ignored = config();
    ignored["llm_int8_skip_modules"] = json!([MODULE]);
    says(ignored, &[MODULE, "lists its module", "U8 codes"]);
    let none = Model::single(&tensors).error();
    assert_says(&none, &["quant_state", "no quantization_config"]);
    let float = tensor(&format!("{MODULE}.weight"), BF16, &[2, 64], vec![0; 256]);
    let orphan = support::f32(&format!("{MODULE}.weight.absmax"), &[2], &[1.0; 2]);
    assert_eq!(orphan.dtype, F32);
    let bare = model(&config(), &[float, orphan]).error();
    assert_says(&bare, &["quantization_config", "no tensor holds codes"]);
}
