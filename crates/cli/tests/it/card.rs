//! Cards and plans.

use serde_json::Value;
use xgraft_results::human::percent;

use crate::support::{extract, fixture, stderr, succeed, xgraft};

#[test]
fn a_card_says_what_the_manifest_proves() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (base, tuned) = (fixture("tiny-qwen3/base"), fixture("tiny-qwen3/tuned"));
    extract((&base, &tuned), 8, &at("a"), &[]);
    succeed(&[
        "card",
        &at("a"),
        "--base-model",
        "Qwen/Qwen3-32B",
        "--title",
        "An \"adapter\"",
    ]);
    let card = std::fs::read_to_string(at("a") + "/README.md").unwrap();
    assert!(card.starts_with("---\nbase_model: \"Qwen/Qwen3-32B\"\nbase_model_relation: adapter\nlibrary_name: peft\n"), "{card}");
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(at("a") + "/report.json").unwrap()).unwrap();
    let kept = report["totals"]["energy_kept"].as_f64().unwrap();
    assert!(card.contains(&percent(kept)), "{card}");
    assert!(
        card.contains("# An \"adapter\"")
            && card.contains("- base: ")
            && card.contains("\"fixed\": 8"),
        "{card}"
    );
    let again = xgraft(&["card", &at("a")]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));

    succeed(&["quantize", &base, "--scheme", "int4", "--out", &at("q")]);
    succeed(&["card", &at("q")]);
    let card = std::fs::read_to_string(at("q") + "/README.md").unwrap();
    assert!(
        card.contains("rounded to nearest") && card.contains("- int4\n"),
        "{card}"
    );
    assert!(
        !card.to_lowercase().contains("awq") && !card.to_lowercase().contains("gptq"),
        "{card}"
    );
}

#[test]
fn a_directory_without_a_manifest_gets_no_card() {
    let output = xgraft(&["card", &fixture("tiny-qwen3/base")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("manifest.json"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_plan_adds_up() {
    let said = succeed(&[
        "plan",
        &fixture("tiny-qwen3/base"),
        "--adapter",
        "32",
        "--adapter",
        "8",
        "--context",
        "1000",
        "--sequences",
        "2",
        "--gpu",
        "8MiB",
        "--utilization",
        "0.5",
        "--json",
    ]);
    let plan: Value = serde_json::from_str(&said).unwrap();
    let usable = plan["usable_bytes"].as_i64().unwrap();
    assert_eq!(usable, 4 << 20);
    let adapters: i64 = plan["adapter_bytes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b.as_i64().unwrap())
        .sum();
    let cache = plan["cache_bytes_per_token"].as_i64().unwrap();
    for line in plan["formats"].as_array().unwrap() {
        let left = usable - adapters - line["weight_bytes"].as_i64().unwrap();
        assert_eq!(line["left_bytes"], left);
        assert_eq!(line["cache_tokens"], left.max(0) / cache);
        assert_eq!(line["fits"], left >= 2000 * cache, "{line}");
    }
    let files = |end: &str| -> u64 {
        let all = std::fs::read_dir(fixture("tiny-qwen3/base")).unwrap();
        let all = all.map(|entry| entry.unwrap());
        all.filter(|f| f.path().extension().is_some_and(|e| e == end))
            .map(|f| f.metadata().unwrap().len())
            .sum()
    };
    let directory = &plan["directory"];
    let bytes = |field: &str| directory[field].as_u64().unwrap();
    assert_eq!(
        plan["formats"][0]["weight_bytes"],
        directory["tensor_bytes"]
    );
    assert_eq!(
        bytes("tensor_bytes") + bytes("header_bytes"),
        files("safetensors")
    );
    assert_eq!(bytes("other_bytes"), files("json") + files("jinja"));
    let int4 = plan["formats"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["format"] == "int4")
        .unwrap();
    assert!(int4["weight_bytes"].as_i64() < plan["formats"][0]["weight_bytes"].as_i64());
}

#[test]
fn the_card_of_a_bridge_says_that_channel_scales_may_be_left() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("bridge").to_str().unwrap().to_owned();
    // One layer that AutoAWQ packed, without its norms.
    let output = xgraft(&["dequantize", &fixture("golden/packed-awq"), "--out", &at]);
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("warning[scales-folded]"),
        "{}",
        stderr(&output)
    );
    succeed(&["card", &at]);
    let card = std::fs::read_to_string(at + "/README.md").unwrap();
    assert!(
        card.contains("may still be multiplied by scales")
            && card.contains("xgraft_channel_scales"),
        "{card}"
    );
}
