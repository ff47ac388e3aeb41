//! Every verb on the fixture.

use serde_json::Value;

use crate::support::{extract, fixture, stderr, stdout, succeed, xgraft};

#[test]
fn quantize_extract_verify_is_the_main_job() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (base, tuned) = (fixture("tiny-qwen3/base"), fixture("tiny-qwen3/tuned"));
    succeed(&[
        "quantize",
        &base,
        "--scheme",
        "fp8-block",
        "--out",
        &at("q"),
    ]);
    let said = extract((&base, &tuned), 32, &at("a"), &[]);
    assert!(
        said.contains("model.layers.2.self_attn.v_proj") && said.contains("21 modules"),
        "{said}"
    );
    let report = succeed(&[
        "verify",
        "--base",
        &at("q"),
        "--tuned",
        &tuned,
        "--adapter",
        &at("a"),
        "--json",
    ]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["modules"].as_array().unwrap().len(), 21);
    assert!(
        report["relative_error"].as_f64().unwrap() < report["base_error"].as_f64().unwrap() / 3.0
    );
    for file in [
        "manifest.json",
        "report.json",
        "rows.jsonl",
        "findings.jsonl",
        "adapter_config.json",
    ] {
        assert!(folder.path().join("a").join(file).exists(), "{file}");
    }
}

#[test]
fn threads_change_neither_adapter_nor_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let (base, tuned) = (fixture("tiny-qwen3/base"), fixture("tiny-qwen3/tuned"));
    let run = |threads: &str| {
        let out = folder.path().join(threads);
        let path = out.to_str().unwrap();
        extract((&base, &tuned), 8, path, &["--threads", threads]);
        let read = |file: &str| std::fs::read(out.join(file)).unwrap();
        (read("adapter_model.safetensors"), read("manifest.json"))
    };
    assert!(run("1") == run("2"));
}

#[test]
fn a_spoiled_adapter_fails_verification_with_exit_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (base, tuned) = (fixture("tiny-qwen3/base"), fixture("tiny-qwen3/tuned"));
    extract((&base, &tuned), 8, &at("a"), &[]);
    let config = folder.path().join("a/adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("\"lora_alpha\": 8", "\"lora_alpha\": 16"),
    )
    .unwrap();
    let output = xgraft(&[
        "verify",
        "--base",
        &base,
        "--tuned",
        &tuned,
        "--adapter",
        &at("a"),
        "--no-optimum",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("WRONG SCALE"));
    assert!(stderr(&output).contains("lora_alpha"));
}

#[test]
fn sanitize_merge_dequantize_and_report_follow_on_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (base, mergekit) = (
        fixture("tiny-qwen3/base"),
        fixture("golden/mergekit-default"),
    );
    let output = xgraft(&["sanitize", &mergekit, "--base", &base, "--out", &at("s")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("dropped-energy"),
        "{}",
        stderr(&output)
    );
    succeed(&[
        "merge",
        "--base",
        &fixture("golden/ct-fp8-block"),
        "--adapter",
        &at("s"),
        "--out",
        &at("m"),
    ]);
    succeed(&["dequantize", &at("m"), "--out", &at("d")]);
    succeed(&[
        "report",
        &format!("sanitized={}", at("s")),
        "--out",
        &at("r"),
    ]);
    let page = std::fs::read_to_string(folder.path().join("r/report.html")).unwrap();
    assert!(page.contains("<!doctype html>") && !page.contains("http-equiv=\"refresh\""));
}

#[test]
fn an_existing_output_is_refused_without_force() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("q");
    let path = out.to_str().unwrap();
    let args = [
        "quantize",
        &fixture("tiny-qwen3/base"),
        "--scheme",
        "fp8-block",
        "--out",
        path,
    ];
    succeed(&args);
    let output = xgraft(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("exists") && stderr(&output).contains("--force"),
        "{}",
        stderr(&output)
    );
    succeed(&[&args[..], &["--force"]].concat());
}

#[test]
fn wrong_usage_ends_with_two() {
    assert_eq!(xgraft(&["extract"]).status.code(), Some(2));
    assert_eq!(
        xgraft(&["quantize", "x", "--out", "y", "--scheme", "fp7"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        xgraft(&["extract", "--rank", "8", "--energy", "0.9"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn help_names_every_verb() {
    let help = succeed(&["--help"]);
    for verb in [
        "extract",
        "verify",
        "sanitize",
        "quantize",
        "dequantize",
        "merge",
        "inspect",
        "autopsy",
        "report",
    ] {
        assert!(help.contains(verb), "{help}");
    }
}
