//! Checkpoints that do not belong together.

use serde_json::json;
use xgraft_adapter_sanitize::{Policy, Rules};
use xgraft_checkpoint::Adapter;
use xgraft_lora_extract::{Config, Error, RankRule};

use crate::support::{Pair, Tensor, config_json, model, noise, run, tuned, write};

fn rank4() -> Config {
    Config {
        rank: RankRule::Fixed(4),
        max_dropped: 1.0,
        ..Config::default()
    }
}

#[test]
fn a_missing_linear_names_the_tensor_and_both_directories() {
    let short: Vec<Tensor> = tuned()
        .into_iter()
        .filter(|t| !t.name.contains("layers.1.mlp.up"))
        .collect();
    let pair = Pair::of(&model(), &short);
    let error = pair.extract(&rank4(), "a").unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, Error::MissingModule { count: 1, .. }),
        "{text}"
    );
    assert!(text.contains("model.layers.1.mlp.up_proj.weight"), "{text}");
    assert!(!pair.path("a").exists());
}

#[test]
fn another_shape_names_both_shapes() {
    let mut other = tuned();
    let at = other
        .iter()
        .position(|t| t.name.contains("layers.0.mlp.up"))
        .unwrap();
    other[at] = Tensor::new(&other[at].name, &[90, 48], noise(5, 90 * 48));
    let error = Pair::of(&model(), &other)
        .extract(&rank4(), "a")
        .unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
    let text = error.to_string();
    for part in ["[96, 48]", "[90, 48]", "base/model", "tuned/model"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn another_architecture_names_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config_json();
    write(&folder.path().join("base"), &model(), &config);
    config["architectures"] = json!(["Qwen3ForCausalLM"]);
    write(&folder.path().join("tuned"), &tuned(), &config);
    let at = |name: &str| folder.path().join(name);
    let error = run(&at("base"), &at("tuned"), &rank4(), &at("a")).unwrap_err();
    assert!(
        matches!(
            error,
            Error::ConfigMismatch {
                field: "architectures",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn extra_vocabulary_is_reported_and_does_not_stop_the_rest() {
    let mut wide = tuned();
    for at in [0, 1] {
        let mut values = wide[at].values.clone();
        values.extend(noise(9, 3 * 48));
        wide[at] = Tensor::new(&wide[at].name, &[43, 48], values);
    }
    let report = Pair::of(&model(), &wide)
        .extract(&rank4(), "a")
        .unwrap()
        .report;
    assert_eq!(
        report
            .findings
            .iter()
            .filter(|f| f.code == "vocabulary-rows")
            .count(),
        2
    );
    let embedding = report
        .dropped
        .iter()
        .find(|d| d.tensor == "model.embed_tokens.weight")
        .unwrap();
    assert!(
        embedding.energy.unwrap() > 1.0,
        "the rows that only one has are counted"
    );
}

#[test]
fn an_extra_tensor_is_a_finding() {
    let mut more = tuned();
    more.push(Tensor::new(
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        &[8],
        noise(1, 8),
    ));
    let report = Pair::of(&model(), &more)
        .extract(&rank4(), "a")
        .unwrap()
        .report;
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.code == "lone-tensor" && f.subject.contains("inv_freq"))
    );
}

#[test]
fn a_head_that_only_the_tuned_side_has_is_compared_with_the_tied_embedding() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config_json();
    let at = |name: &str| folder.path().join(name);
    write(&at("tuned"), &tuned(), &config);
    config["tie_word_embeddings"] = json!(true);
    let tied: Vec<Tensor> = model()
        .into_iter()
        .filter(|t| t.name != "lm_head.weight")
        .collect();
    write(&at("base"), &tied, &config);
    let report = run(&at("base"), &at("tuned"), &rank4(), &at("a"))
        .unwrap()
        .report;
    let head = report
        .dropped
        .iter()
        .find(|d| d.tensor == "lm_head.weight")
        .unwrap();
    assert_eq!(head.reason, "tied-head");
}

#[test]
fn a_nan_names_tensor_row_and_column() {
    let mut broken = tuned();
    let at = broken
        .iter()
        .position(|t| t.name.contains("layers.1.mlp.down"))
        .unwrap();
    broken[at].values[96 * 2 + 7] = f32::NAN;
    let pair = Pair::of(&model(), &broken);
    let text = pair.extract(&rank4(), "a").unwrap_err().to_string();
    assert!(
        text.contains("layers.1.mlp.down_proj")
            && text.contains("row 2")
            && text.contains("column 7"),
        "{text}"
    );
    assert!(!pair.path("a").exists());
}

fn with_rows(rows: usize) -> Vec<Tensor> {
    let mut tensors = tuned();
    for at in [0, 1] {
        let mut values = tensors[at].plus(2, 0.3, 40 + at as u64).values;
        values.resize(rows * 48, 2.0);
        tensors[at] = Tensor::new(&tensors[at].name, &[rows, 48], values);
    }
    tensors
}

fn with_embeddings() -> Config {
    Config {
        rules: Rules {
            policy: Policy::Vllm,
            embeddings: true,
        },
        ..rank4()
    }
}

#[test]
fn rows_that_only_the_tuned_vocabulary_has_are_dropped_even_where_embeddings_are_kept() {
    let pair = Pair::of(&model(), &with_rows(43));
    let report = pair.extract(&with_embeddings(), "a").unwrap().report;
    let extra: Vec<_> = report
        .dropped
        .iter()
        .filter(|d| d.reason == "extra-vocabulary")
        .collect();
    assert_eq!(extra.len(), 2);
    assert!((extra[0].energy.unwrap() - 3.0 * 48.0 * 4.0).abs() < 1e-6);
    let check = pair.verify("a").unwrap();
    assert!(check.uncovered_share > 0.0 && check.uncovered.len() == 2);
}

#[test]
fn a_shorter_tuned_vocabulary_is_padded_to_the_rows_of_the_base() {
    let pair = Pair::of(&model(), &with_rows(37));
    pair.extract(&with_embeddings(), "a").unwrap();
    let adapter = Adapter::open(pair.path("a")).unwrap();
    for module in ["model.embed_tokens", "lm_head"] {
        assert_eq!(adapter.module(module).unwrap().weight_shape(), (40, 48));
    }
    assert!(pair.verify("a").unwrap().passed);
}

#[test]
fn a_head_that_only_the_base_has_is_compared_with_the_tied_embedding_of_the_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut config = config_json();
    write(&at("base"), &model(), &config);
    config["tie_word_embeddings"] = json!(true);
    let tied: Vec<Tensor> = tuned()
        .into_iter()
        .filter(|t| t.name != "lm_head.weight")
        .collect();
    write(&at("tuned"), &tied, &config);
    let report = run(&at("base"), &at("tuned"), &rank4(), &at("a"))
        .unwrap()
        .report;
    assert!(report.dropped.iter().any(|d| d.reason == "tied-head"));
}

#[test]
fn tensors_without_a_counterpart_count_as_dropped() {
    let mut more = tuned();
    more.push(Tensor::new(
        "model.layers.0.self_attn.q_proj.bias",
        &[64],
        vec![2.0; 64],
    ));
    let report = Pair::of(&model(), &more)
        .extract(&rank4(), "a")
        .unwrap()
        .report;
    let bias = report
        .dropped
        .iter()
        .find(|d| d.tensor.ends_with("q_proj.bias"))
        .unwrap();
    assert!((bias.energy.unwrap() - 256.0).abs() < 1e-9);
}
