//! What the decoder does not do is refused by name.

use serde_json::{Value, json};
use xgraft_fixtures::{TINY, golden};
use xgraft_model::{LoraAdapter, Model, Options};

/// The message for the base model with one field changed.
fn refusal(field: &str, value: Value) -> String {
    let dir = tempfile::tempdir().expect("a changed copy");
    let from = TINY.base();
    let text = std::fs::read(from.join("config.json")).expect("a changed copy");
    let mut config: Value = serde_json::from_slice(&text).expect("a changed copy");
    config[field] = value;
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("a changed copy");
    std::fs::copy(
        from.join("model.safetensors"),
        dir.path().join("model.safetensors"),
    )
    .expect("a changed copy");
    Model::open(dir.path(), &Options::default())
        .expect_err("it is refused")
        .to_string()
}

#[test]
fn options_that_would_change_the_result_are_named() {
    for (field, value, named) in [
        (
            "architectures",
            json!(["MixtralForCausalLM"]),
            "MixtralForCausalLM",
        ),
        (
            "hidden_act",
            json!("gelu"),
            "`hidden_act`: expected \"silu\", found \"gelu\"",
        ),
        ("attention_bias", json!(true), "`attention_bias`"),
        ("use_sliding_window", json!(true), "`use_sliding_window`"),
        (
            "rope_parameters",
            json!({"rope_type": "longrope"}),
            "`rope_parameters.rope_type`: expected default, llama3 or yarn",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "yarn", "factor": -2.0}),
            "`rope_parameters.factor`",
        ),
        (
            "rope_parameters",
            json!({"rope_type": "llama3", "factor": 8.0}),
            "`rope_parameters.low_freq_factor`",
        ),
        (
            "num_key_value_heads",
            json!(3),
            "`num_key_value_heads`: expected a divisor of the 4 query heads",
        ),
        (
            "head_dim",
            json!(24),
            "`head_dim`: expected a multiple of 16",
        ),
        (
            "hidden_size",
            json!(128),
            "expected [128, 128], found [128, 256]",
        ),
        ("num_hidden_layers", json!(4), "`model.layers.3."),
    ] {
        let message = refusal(field, value);
        assert!(message.contains(named), "{field}: {message}");
    }
}

#[test]
fn adapters_of_other_models_and_with_other_modules_are_refused() {
    let model = Model::open(TINY.base(), &Options::default()).unwrap();
    let message = |name: &str, model: &Model| {
        LoraAdapter::open(golden::path(name), model.spec())
            .unwrap_err()
            .to_string()
    };
    assert!(message("peft-patterns", &model).contains("xgraft sanitize"));
    let other = Model::open(golden::path("forward-llama3"), &Options::default()).unwrap();
    assert!(message("peft-plain", &other).contains("expected factors of ["));
}

#[test]
fn an_adapter_that_is_more_than_its_factors_or_cannot_be_scaled_is_refused() {
    let model = Model::open(TINY.base(), &Options::default()).unwrap();
    for (field, value, named) in [
        ("use_dora", json!(true), "`use_dora`: expected plain LoRA"),
        (
            "bias",
            json!("all"),
            "`bias`: expected plain LoRA, found all",
        ),
        ("modules_to_save", json!(["lm_head"]), "`modules_to_save`"),
        (
            "lora_alpha",
            json!(1e300),
            "a scale (alpha over rank) that f32 can hold",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let from = golden::path("peft-plain");
        let weights = "adapter_model.safetensors";
        std::fs::copy(from.join(weights), dir.path().join(weights)).unwrap();
        let text = std::fs::read(from.join("adapter_config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&text).unwrap();
        config[field] = value;
        std::fs::write(dir.path().join("adapter_config.json"), config.to_string()).unwrap();
        let message = LoraAdapter::open(dir.path(), model.spec())
            .unwrap_err()
            .to_string();
        assert!(message.contains(named), "{field}: {message}");
    }
}
