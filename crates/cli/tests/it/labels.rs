//! What an output says of itself: simulated values, a bridge's error, patterns that keep nothing.

use serde_json::Value;

use crate::support::{fixture, stderr, succeed, xgraft};

fn json(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn simulated_values_bear_their_mark_whatever_is_made_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = fixture("tiny-qwen3/base");
    for (verb, from, to, options) in [
        ("quantize", &base, "int2", &["--scheme", "int2"][..]),
        ("quantize", &at("int2"), "fp8", &["--scheme", "fp8-block"]),
        ("dequantize", &at("fp8"), "bridge", &[]),
    ] {
        let out = at(to);
        let said = succeed(&[&[verb, from, "--out", &out], options].concat());
        assert!(said.contains("simulated: values of int2"), "{to}: {said}");
        assert_eq!(
            json(&(out.clone() + "/report.json"))["simulated"][0],
            "int2"
        );
        let manifest = json(&(out.clone() + "/manifest.json"));
        let named = match to {
            "int2" => &manifest["config"]["layout"] == "simulated",
            _ => &manifest["config"]["simulated_source"][0] == "int2",
        };
        assert!(named, "{to}: {manifest}");
        succeed(&["card", &out]);
        let card = std::fs::read_to_string(out + "/README.md").unwrap();
        assert!(
            card.contains("**Simulated.**") && card.contains("\n- simulated\n"),
            "{card}"
        );
    }
    // another one on top: both are told, in their order
    let said = succeed(&[
        "quantize",
        &at("bridge"),
        "--scheme",
        "nvfp4",
        "--out",
        &at("twice"),
    ]);
    assert!(said.contains("values of int2, then nvfp4"), "{said}");
}

#[test]
fn a_bridges_error_is_that_of_rounding_to_bf16() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = succeed(&[
        "quantize",
        &fixture("tiny-qwen3/base"),
        "--scheme",
        "int4",
        "--out",
        &at("q"),
    ]);
    assert!(said.contains("quantization error"), "{said}");
    let said = succeed(&["dequantize", &at("q"), "--out", &at("d")]);
    assert!(said.contains("each value rounded to BF16 once"), "{said}");
    assert!(
        !said.contains("quantization error") && !said.contains("simulated"),
        "{said}"
    );
    succeed(&["card", &at("d")]);
    let card = std::fs::read_to_string(at("d") + "/README.md").unwrap();
    assert!(
        card.contains("each rounded to BF16 once") && !card.contains("quantization error"),
        "{card}"
    );
    let config = json(&(at("d") + "/manifest.json"))["config"].clone();
    assert!(config.get("scheme").is_none(), "{config}");
    let rows = std::fs::read_to_string(at("d") + "/rows.jsonl").unwrap();
    assert!(!rows.contains("relative_error") && !rows.contains("quantization_error"));
}

#[test]
fn a_pattern_that_keeps_nothing_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("q");
    let base = fixture("tiny-qwen3/base");
    let quantize = |keep: &str| {
        xgraft(&[
            "quantize",
            &base,
            "--scheme",
            "int4",
            "--keep",
            keep,
            "--out",
            out.to_str().unwrap(),
        ])
    };
    for (keep, words) in [
        ("re:(", "expected a regular expression"),
        ("re:(?!x)", "expected a regular expression"),
        ("q_pro", "no such module"),
        ("re:q_proj", "no such module"),
    ] {
        let output = quantize(keep);
        assert_eq!(output.status.code(), Some(1), "{keep}");
        let text = stderr(&output);
        assert!(text.contains(words) && text.contains("hint: "), "{text}");
        assert!(!out.exists() && !out.with_extension("partial").exists());
    }
    // what stays anyway may be named
    assert!(quantize("lm_head").status.success());
}

#[test]
fn a_card_needs_a_hub_name_and_a_whole_licence() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("q").to_str().unwrap().to_owned();
    succeed(&[
        "quantize",
        &fixture("tiny-qwen3/base"),
        "--scheme",
        "fp8-block",
        "--out",
        &out,
    ]);
    for (options, words) in [
        (&["--base-model", "/a/b"][..], "a name on the hub"),
        (&["--license", "other"], "--license-name"),
        (&["--license", "Apache 2.0"], "hub's list"),
    ] {
        let output = xgraft(&[&["card", &out], options].concat());
        assert_eq!(output.status.code(), Some(1), "{options:?}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let output = xgraft(&["card", &out]);
    assert!(stderr(&output).contains("no `license`") && stderr(&output).contains("--base-model"));
    let card = std::fs::read_to_string(out.clone() + "/README.md").unwrap();
    assert!(
        !card.contains("base_model:") && !card.contains("license:"),
        "{card}"
    );
    let whole = [
        "card",
        &out,
        "--force",
        "--base-model",
        "a/b",
        "--license",
        "other",
        "--license-name",
        "x",
        "--license-link",
        "LICENSE",
    ];
    succeed(&whole);
    let card = std::fs::read_to_string(out + "/README.md").unwrap();
    let front = "---\nlicense: other\nlicense_name: \"x\"\nlicense_link: \"LICENSE\"\nbase_model: \"a/b\"\nbase_model_relation: quantized\n";
    assert!(
        card.starts_with(front) && card.contains("F8_E4M3 (1.77"),
        "{card}"
    );
}
