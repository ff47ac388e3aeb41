//! Directories: shards, indexes, what is missing.

use std::os::unix::fs::symlink;

use xgraft_checkpoint::{Checkpoint, Error};

use crate::support::{Model, assert_says, bf16, safetensors_bytes};

const A: &str = "model-00001-of-00002.safetensors";
const B: &str = "model-00002-of-00002.safetensors";

/// Two shards with one tensor each, and their index.
fn two_shards() -> Model {
    let model = Model::new();
    model.file(A, &safetensors_bytes(&[bf16("a.weight", &[2, 2])]));
    model.file(B, &safetensors_bytes(&[bf16("b.weight", &[3, 2])]));
    model.index(&[("a.weight", A), ("b.weight", B)]);
    model
}

#[test]
fn shards_open_as_one_checkpoint() {
    let checkpoint = two_shards().open();
    let names: Vec<_> = checkpoint
        .tensors()
        .map(|t| (t.name.as_str(), t.shard))
        .collect();
    assert_eq!(names, [("a.weight", 0), ("b.weight", 1)]);
    assert_eq!(checkpoint.shards().len(), 2);
    assert_eq!(checkpoint.total_bytes(), 20);
}

#[test]
fn a_shard_that_is_not_on_disk_is_named() {
    let model = two_shards();
    std::fs::remove_file(model.path(B)).unwrap();
    let error = model.error();
    assert_says(&error, &["index.json", B, "no such file"]);
    assert!(error.hint().unwrap().contains("download"));
}

#[test]
fn a_tensor_that_its_shard_lacks_is_named() {
    let model = two_shards();
    model.index(&[("a.weight", A), ("b.weight", B), ("c.weight", B)]);
    assert_says(&model.error(), &["index.json", "`c.weight`", B]);
}

#[test]
fn a_tensor_that_the_index_lacks_is_named() {
    let model = two_shards();
    model.file(
        B,
        &safetensors_bytes(&[bf16("b.weight", &[3, 2]), bf16("c.weight", &[1])]),
    );
    assert_says(&model.error(), &["index.json", "`c.weight`", "no entry"]);
}

#[test]
fn a_tensor_in_another_shard_than_the_index_says_is_named() {
    let model = two_shards();
    model.index(&[("a.weight", B), ("b.weight", A)]);
    assert_says(&model.error(), &["`a.weight`", A, B]);
}

#[test]
fn a_tensor_in_two_shards_is_named_with_both() {
    let model = two_shards();
    model.file(
        B,
        &safetensors_bytes(&[bf16("b.weight", &[3, 2]), bf16("a.weight", &[2, 2])]),
    );
    assert_says(&model.error(), &[A, B, "`a.weight`"]);
}

#[test]
fn a_path_out_of_the_directory_is_refused() {
    for path in [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/../../x.safetensors",
        "..",
        "",
        "./x.safetensors",
        "x\0.safetensors",
        "..\\x.safetensors",
        "shard.bin",
    ] {
        let model = two_shards();
        model.index(&[("a.weight", A), ("b.weight", path)]);
        assert_says(
            &model.error(),
            &["index.json", "`b.weight`", "inside the directory"],
        );
    }
}

#[test]
fn a_symbolic_link_is_the_hub_cache_and_fine() {
    let model = two_shards();
    std::fs::create_dir(model.path("blobs")).unwrap();
    std::fs::rename(model.path(A), model.path("blobs/abc")).unwrap();
    symlink("blobs/abc", model.path(A)).unwrap();
    assert_eq!(model.open().tensors().len(), 2);
}

#[test]
fn a_broken_link_is_a_missing_shard() {
    let model = two_shards();
    std::fs::remove_file(model.path(A)).unwrap();
    symlink("blobs/none", model.path(A)).unwrap();
    assert_says(&model.error(), &[A, "no such file"]);
}

#[test]
fn an_index_that_is_none_is_refused() {
    for (text, word) in [
        ("{", "EOF"),
        ("[]", "weight_map"),
        ("{}", "weight_map"),
        (r#"{"weight_map": {"a": 1}}"#, "string"),
        (
            r#"{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}"#,
            "twice",
        ),
        (r#"{"weight_map": {}} x"#, "trailing"),
    ] {
        let model = Model::new();
        model.file("model.safetensors.index.json", text.as_bytes());
        let error = model.error();
        assert_says(&error, &["index.json"]);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(word), "{word:?} is not in: {cause}");
    }
}

#[test]
fn a_size_written_as_a_float_is_no_reason_to_refuse() {
    let model = two_shards();
    let index = format!(
        r#"{{"metadata": {{"total_size": 2.0e1}}, "weight_map": {{"a.weight": "{A}", "b.weight": "{B}"}}}}"#
    );
    model.file("model.safetensors.index.json", index.as_bytes());
    model.open();
}

#[test]
fn a_single_file_beside_the_shards_of_an_index_is_ambiguous() {
    let model = two_shards();
    model.file(
        "model.safetensors",
        &safetensors_bytes(&[bf16("a.weight", &[2, 2])]),
    );
    assert_says(&model.error(), &["model.safetensors", "left over"]);
}

#[test]
fn an_index_that_names_the_single_file_is_fine() {
    let model = Model::single(&[bf16("a.weight", &[2, 2])]);
    model.index(&[("a.weight", "model.safetensors")]);
    assert_eq!(model.open().tensors().len(), 1);
}

#[test]
fn what_is_no_model_directory_is_told_with_a_hint() {
    let temp = tempfile::tempdir().unwrap();
    let error = |path: &std::path::Path| {
        let error = Checkpoint::open(path).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        error.to_string()
    };
    assert!(error(&temp.path().join("none")).contains("found nothing"));
    assert!(error(temp.path()).contains("no config.json"));
    std::fs::write(temp.path().join("file"), "").unwrap();
    assert!(error(&temp.path().join("file")).contains("found a file"));
    std::fs::create_dir(temp.path().join("snapshots")).unwrap();
    assert!(error(temp.path()).contains("cache"));
    std::fs::write(temp.path().join("adapter_config.json"), "{}").unwrap();
    assert!(error(temp.path()).contains("an adapter"));
    std::fs::write(temp.path().join("config.json"), "{}").unwrap();
    assert!(error(temp.path()).contains("expected model.safetensors"));
    std::fs::write(temp.path().join("pytorch_model.bin"), "").unwrap();
    assert!(error(temp.path()).contains("pytorch_model.bin"));
}

#[test]
fn a_configuration_with_a_field_of_another_kind_is_refused() {
    for (config, words) in [
        (
            r#"{"hidden_size": "wide"}"#,
            ["`hidden_size`", "a whole number", "\"wide\""],
        ),
        (
            r#"{"tie_word_embeddings": 1}"#,
            ["`tie_word_embeddings`", "true or false", "1"],
        ),
        (
            r#"{"architectures": "Qwen"}"#,
            ["`architectures`", "a list of texts", "\"Qwen\""],
        ),
        (
            r#"{"num_hidden_layers": -1}"#,
            ["`num_hidden_layers`", "a whole number", "-1"],
        ),
    ] {
        let model = Model::with_config(config);
        model.file("model.safetensors", &safetensors_bytes(&[]));
        assert_says(&model.error(), &words);
    }
    let model = Model::with_config("{");
    assert!(matches!(model.error(), Error::Json { .. }));
}

#[test]
fn a_configuration_keeps_its_order_when_it_is_rewritten() {
    let config = r#"{"model_type":"qwen3","b":1,"quantization_config":{"quant_method":"none"},"a":null,"dtype":"bfloat16"}"#;
    let config =
        xgraft_checkpoint::ModelConfig::parse(config.as_bytes(), "config.json".as_ref()).unwrap();
    assert_eq!(config.dtype.as_deref(), Some("bfloat16"));
    let without = config.with_quantization(None);
    assert_eq!(
        without,
        "{\n  \"model_type\": \"qwen3\",\n  \"b\": 1,\n  \"a\": null,\n  \"dtype\": \"bfloat16\"\n}\n"
    );
    let with = config.with_quantization(Some(&serde_json::json!({"x": 1})));
    let order: Vec<usize> = ["model_type", "\"b\"", "quantization_config", "\"a\""]
        .iter()
        .map(|k| with.find(k).unwrap())
        .collect();
    assert!(order.is_sorted(), "{with}");
}

#[test]
fn embeddings_are_tied_when_the_head_is_absent_and_nobody_denies_it() {
    let embed = bf16("model.embed_tokens.weight", &[4, 2]);
    let head = bf16("lm_head.weight", &[4, 2]);
    let tied = |config: &str, tensors: &[_]| {
        let model = Model::with_config(config);
        model.file("model.safetensors", &safetensors_bytes(tensors));
        model.open().tied_embeddings()
    };
    assert!(tied(
        r#"{"tie_word_embeddings": true}"#,
        std::slice::from_ref(&embed)
    ));
    assert!(tied("{}", std::slice::from_ref(&embed)));
    assert!(!tied(
        r#"{"tie_word_embeddings": false}"#,
        std::slice::from_ref(&embed)
    ));
    assert!(!tied(r#"{"tie_word_embeddings": true}"#, &[embed, head]));
}
