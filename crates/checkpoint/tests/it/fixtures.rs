//! Directories that other tools have written, from the repository's fixtures.

use std::path::PathBuf;

use xgraft_checkpoint::{
    Adapter, AdapterConfig, Checkpoint, Fp8Layout, LoraKind, Quantization, Role,
};

/// A fixture, or nothing outside the repository (a packaged crate has no fixtures).
fn fixture(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures")).join(name);
    path.exists().then_some(path)
}

#[test]
fn the_trained_pair_opens_single_and_sharded() {
    let (Some(base), Some(tuned)) = (fixture("tiny-qwen3/base"), fixture("tiny-qwen3/tuned"))
    else {
        return;
    };
    let (base, tuned) = (
        Checkpoint::open(base).unwrap(),
        Checkpoint::open(tuned).unwrap(),
    );
    assert_eq!((base.shards().len(), tuned.shards().len()), (1, 2));
    assert_eq!(base.config().architectures, ["Qwen3ForCausalLM"]);
    assert_eq!((base.layer_count(), base.tied_embeddings()), (3, false));
    let names = |c: &Checkpoint| c.tensors().map(|t| t.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&base), names(&tuned));
    assert_eq!(
        base.weights().iter().filter(|w| w.role.is_linear()).count(),
        21
    );
    assert!(
        base.weights()
            .iter()
            .all(|w| !matches!(w.role, Role::Other | Role::OtherLinear))
    );
    for weight in base.weights() {
        assert!(base.load(weight).unwrap().0.as_bf16().is_some());
    }
}

#[test]
fn a_checkpoint_of_compressed_tensors_opens_and_is_near_its_original() {
    let (Some(base), Some(quantized)) =
        (fixture("tiny-qwen3/base"), fixture("golden/ct-fp8-block"))
    else {
        return;
    };
    let (base, quantized) = (
        Checkpoint::open(base).unwrap(),
        Checkpoint::open(quantized).unwrap(),
    );
    let Quantization::Fp8 { layout, .. } = quantized.quantization() else {
        panic!()
    };
    assert_eq!(*layout, Fp8Layout::CompressedTensors);
    let modules = |c: &Checkpoint| {
        c.weights()
            .iter()
            .map(|w| w.module.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(modules(&base), modules(&quantized));
    for weight in quantized.weights() {
        assert_eq!(
            weight.is_quantized(),
            weight.role.is_linear(),
            "{}",
            weight.module
        );
        let exact = base
            .load(base.weight(&weight.module).unwrap())
            .unwrap()
            .0
            .to_f32();
        let read = quantized.load(weight).unwrap().0.to_f32();
        let error: f64 = exact
            .iter()
            .zip(&read)
            .map(|(x, y)| f64::from(x - y).powi(2))
            .sum();
        let norm: f64 = exact.iter().map(|x| f64::from(*x).powi(2)).sum();
        let relative = (error / norm).sqrt();
        assert!(
            relative < if weight.is_quantized() { 0.03 } else { 1e-9 },
            "{}: {relative}",
            weight.module
        );
    }
}

#[test]
fn adapters_of_peft_open_with_every_pattern() {
    let (Some(plain), Some(patterns)) = (
        fixture("golden/peft-plain"),
        fixture("golden/peft-patterns"),
    ) else {
        return;
    };
    let plain = Adapter::open(plain).unwrap();
    assert_eq!(plain.modules().len(), 21);
    assert!(
        plain
            .modules()
            .iter()
            .all(|m| (m.rank, m.scale) == (8, 2.0))
    );
    let patterns = Adapter::open(patterns).unwrap();
    let of = |module: &str| {
        patterns
            .module(module)
            .map(|m| (m.kind, m.rank, m.alpha))
            .unwrap()
    };
    assert_eq!(
        of("model.layers.0.self_attn.q_proj"),
        (LoraKind::Linear, 16, 4.0)
    );
    assert_eq!(
        of("model.layers.1.self_attn.q_proj"),
        (LoraKind::Linear, 8, 8.0)
    );
    assert_eq!(
        of("model.layers.1.self_attn.v_proj"),
        (LoraKind::Linear, 8, 32.0)
    );
    assert_eq!(
        of("model.layers.2.mlp.down_proj"),
        (LoraKind::Linear, 4, 6.0)
    );
    assert_eq!(of("model.embed_tokens"), (LoraKind::Embedding, 8, 8.0));
    let others: Vec<_> = patterns.others().map(|t| t.module.as_str()).collect();
    assert_eq!(others, ["lm_head", "model.embed_tokens"]);
}

#[test]
fn the_configuration_of_peft_is_written_back_byte_for_byte() {
    for name in ["golden/peft-plain", "golden/peft-patterns"] {
        let Some(dir) = fixture(name) else { return };
        let path = dir.join("adapter_config.json");
        let config = AdapterConfig::read(&path).unwrap();
        assert_eq!(
            config.to_json(),
            std::fs::read_to_string(&path).unwrap().trim_end(),
            "{name}"
        );
    }
}

#[test]
fn the_output_of_mergekit_opens_with_its_whole_modules_listed() {
    let Some(dir) = fixture("golden/mergekit-default") else {
        return;
    };
    let adapter = Adapter::open(dir).unwrap();
    assert_eq!(adapter.modules().len(), 21);
    assert_eq!(
        adapter.config().modules_to_save.as_ref().map(Vec::len),
        Some(7)
    );
    assert!(adapter.others().any(|t| t.module == "lm_head"));
    assert!(adapter.others().any(|t| t.module == "model.norm"));
}
