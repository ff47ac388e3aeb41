//! `inspect` and `autopsy` on healthy directories and broken ones.

use serde_json::Value;

use crate::support::{copy, fixture, stderr, stdout, succeed, xgraft};

#[test]
fn inspect_groups_the_layers_and_lists_each_tensor_on_request() {
    let base = fixture("tiny-qwen3/base");
    let said = succeed(&["inspect", &base]);
    assert!(said.contains("model.layers.*.mlp.up_proj.weight"), "{said}");
    assert!(
        said.contains("36 tensors") && said.contains("plain in 36 modules"),
        "{said}"
    );
    assert!(succeed(&["inspect", &base, "--all"]).contains("model.layers.2.mlp.up_proj.weight"));
    let report: Value = serde_json::from_str(&succeed(&["inspect", &base, "--json"])).unwrap();
    assert_eq!(report["tensors"].as_array().unwrap().len(), 36);
    assert_eq!(report["schema"], "xgraft.inspect-report/1");
}

#[test]
fn inspect_says_everything_that_is_wrong_and_ends_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("m");
    copy(&fixture("tiny-qwen3/base"), &dir);
    let weights = dir.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::remove_file(dir.join("config.json")).unwrap();
    let output = xgraft(&["inspect", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("config.json") && said.contains("truncated"),
        "{said}"
    );
    assert!(said.contains("more of `bad-tensor`"), "{said}");
    assert!(stdout(&output).contains("self_attn.q_proj.weight"));
}

#[test]
fn autopsy_of_a_quantized_copy_is_healthy_beside_its_original() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = fixture("tiny-qwen3/base");
    succeed(&[
        "quantize",
        &base,
        "--scheme",
        "fp8-block",
        "--out",
        &at("q"),
    ]);
    let said = succeed(&["autopsy", &at("q"), "--reference", &base, "--out", &at("o")]);
    assert!(said.contains("36 tensors, 0 sick"), "{said}");
    for file in [
        "manifest.json",
        "report.json",
        "rows.jsonl",
        "findings.jsonl",
    ] {
        assert!(folder.path().join("o").join(file).exists(), "{file}");
    }
    let report = std::fs::read_to_string(folder.path().join("o/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["thresholds"]["linear"]["rms_max"].is_number());
    let again = xgraft(&["autopsy", &at("q"), "--out", &at("o")]);
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn autopsy_names_the_sick_tensor_its_block_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("m");
    copy(&fixture("tiny-qwen3/base"), &dir);
    let path = dir.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 2000; // in the last matrix of the file
    bytes[end..end + 2].copy_from_slice(&0x7fc0u16.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let output = xgraft(&["autopsy", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let said = stderr(&output);
    assert!(said.contains("error[not-finite] model.layers.2."), "{said}");
    assert!(
        said.contains("rows ") && said.contains("hint: look for NaN codes"),
        "{said}"
    );
    assert!(
        stdout(&output).contains("36 tensors, 1 sick"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn thresholds_are_taken_from_the_command_line_and_checked() {
    let base = fixture("tiny-qwen3/base");
    let strict = xgraft(&["autopsy", &base, "--threshold", "lm_head.rms_max=0.01"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(stderr(&strict).contains("error[exploded] lm_head.weight"));
    let wrong = xgraft(&["autopsy", &base, "--threshold", "lm_head.rms=1"]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = stderr(&wrong);
    assert!(
        said.contains("rms_max") && said.contains("hint: "),
        "{said}"
    );
}
