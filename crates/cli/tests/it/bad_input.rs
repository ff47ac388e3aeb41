//! Bad input: one error that names the file and the tensor, exit 1, nothing under the output's name.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{copy, fixture, stderr, xgraft};

/// Damages a copy of the tuned model (two shards and an index), extracts from it, and gives the error.
fn error_of(damage: impl Fn(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let tuned = folder.path().join("tuned");
    copy(&fixture("tiny-qwen3/tuned"), &tuned);
    damage(&tuned);
    extract_error(
        folder.path(),
        &fixture("tiny-qwen3/base"),
        tuned.to_str().unwrap(),
        &["--rank", "8"],
    )
}

fn extract_error(folder: &Path, base: &str, tuned: &str, more: &[&str]) -> String {
    let out = folder.join("adapter");
    let mut args = vec![
        "extract",
        "--base",
        base,
        "--tuned",
        tuned,
        "--out",
        out.to_str().unwrap(),
    ];
    args.extend(more);
    let output = xgraft(&args);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!out.exists(), "an output was left");
    let text = stderr(&output);
    assert!(
        text.starts_with("error: ") || text.contains("\nerror: "),
        "{text}"
    );
    text
}

const SHARD: &str = "model-00001-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Rewrites the JSON header of a shard in place, padded to its old length or with a new one.
fn edit_header(dir: &Path, edit: impl Fn(&mut Value)) {
    let path = dir.join(SHARD);
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let mut text = header.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    out.extend(&bytes[8 + length..]);
    std::fs::write(path, out).unwrap();
}

fn first_tensor(header: &Value) -> String {
    let names = header.as_object().unwrap().keys();
    names
        .filter(|n| *n != "__metadata__")
        .min()
        .unwrap()
        .clone()
}

fn expect(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn a_truncated_shard() {
    let text = error_of(|dir| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(dir.join(SHARD))
            .unwrap();
        file.set_len(file.metadata().unwrap().len() - 1000).unwrap();
    });
    expect(&text, &[SHARD, "expected", "found"]);
}

#[test]
fn a_header_of_absurd_length() {
    let text = error_of(|dir| {
        let path = dir.join(SHARD);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(path, bytes).unwrap();
    });
    expect(&text, &[SHARD, "header"]);
}

#[test]
fn overlapping_offsets() {
    let text = error_of(|dir| {
        edit_header(dir, |header| {
            let names: Vec<String> = header
                .as_object()
                .unwrap()
                .keys()
                .filter(|n| *n != "__metadata__")
                .cloned()
                .collect();
            let first = header[&names[0]].clone();
            header[&names[1]] = first;
        });
    });
    expect(&text, &[SHARD, "tensor"]);
}

#[test]
fn a_shape_whose_product_overflows() {
    let text = error_of(|dir| {
        edit_header(dir, |header| {
            let name = first_tensor(header);
            header[&name]["shape"] = json!([u64::MAX / 2, 4]);
        });
    });
    expect(&text, &[SHARD, "expected", "found"]);
}

#[test]
fn a_shard_that_is_missing_from_the_disk() {
    let text = error_of(|dir| std::fs::remove_file(dir.join(SHARD)).unwrap());
    expect(&text, &[INDEX, SHARD]);
}

#[test]
fn an_index_that_names_a_path_outside() {
    let text = error_of(|dir| {
        let path = dir.join(INDEX);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace(SHARD, &format!("../{SHARD}"))).unwrap();
    });
    expect(&text, &[INDEX, ".."]);
}

#[test]
fn codes_without_their_scale() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    copy(&fixture("golden/ct-fp8-block"), &base);
    let path = base.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("mlp.up_proj.weight_scale"));
    let (from, to) = (b"up_proj.weight_scale\"", b"up_proj.weight_skale\"");
    let mut renamed = bytes;
    while let Some(at) = renamed.windows(from.len()).position(|w| w == from) {
        renamed[at..at + from.len()].copy_from_slice(to);
    }
    std::fs::write(path, renamed).unwrap();
    let index = base.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(
        &index,
        text.replace("up_proj.weight_scale", "up_proj.weight_skale"),
    )
    .unwrap();
    let error = extract_error(
        folder.path(),
        base.to_str().unwrap(),
        &fixture("tiny-qwen3/tuned"),
        &[],
    );
    expect(&error, &["up_proj.weight", "scale"]);
}

#[test]
fn a_nan_in_the_weights() {
    let text = error_of(|dir| {
        let path = dir.join(SHARD);
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&[0xc0, 0x7f]);
        std::fs::write(path, bytes).unwrap();
    });
    expect(&text, &[SHARD, "NaN", "row", "column"]);
}

#[test]
fn two_models_of_different_architecture() {
    let text = error_of(|dir| {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("Qwen3ForCausalLM", "LlamaForCausalLM")).unwrap();
    });
    expect(
        &text,
        &[
            "architectures",
            "Qwen3ForCausalLM",
            "LlamaForCausalLM",
            "hint:",
        ],
    );
}

#[test]
fn rank_zero() {
    let folder = tempfile::tempdir().unwrap();
    let error = extract_error(
        folder.path(),
        &fixture("tiny-qwen3/base"),
        &fixture("tiny-qwen3/tuned"),
        &["--rank", "0"],
    );
    expect(&error, &["rank is 0"]);
}

#[test]
fn a_directory_that_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let error = extract_error(
        folder.path(),
        "/nonexistent/model",
        &fixture("tiny-qwen3/tuned"),
        &[],
    );
    expect(&error, &["/nonexistent/model", "hint:"]);
}

#[test]
fn the_same_model_twice() {
    let folder = tempfile::tempdir().unwrap();
    let base = fixture("tiny-qwen3/base");
    let error = extract_error(folder.path(), &base, &base, &[]);
    expect(&error, &["no delta"]);
}

#[test]
fn an_output_that_would_replace_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let tuned = fixture("tiny-qwen3/tuned");
    copy(&fixture("tiny-qwen3/base"), &folder.path().join("base"));
    let base = at("base");
    let extract = ["extract", "--base", &base, "--tuned", &tuned, "--rank", "4"];
    let refused = |args: &[&str]| {
        let output = xgraft(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        expect(&stderr(&output), &["input"]);
        assert!(folder.path().join("base/model.safetensors").exists());
    };
    refused(&[&extract[..], &["--out", &base, "--force"]].concat());
    let adapter = at("a");
    assert!(
        xgraft(&[&extract[..], &["--out", &adapter]].concat())
            .status
            .success()
    );
    let verify = [
        "verify",
        "--base",
        &base,
        "--tuned",
        &tuned,
        "--adapter",
        &adapter,
    ];
    refused(&[&verify[..], &["--out", &base, "--force"]].concat());
    refused(&[&verify[..], &["--out", &adapter, "--force"]].concat());
    assert!(folder.path().join("a/adapter_model.safetensors").exists());
}

#[test]
fn a_failure_that_cannot_be_resumed_leaves_nothing_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let base = fixture("tiny-qwen3/base");
    extract_error(folder.path(), &base, &base, &[]);
    assert!(!folder.path().join("adapter.partial").exists());
}
