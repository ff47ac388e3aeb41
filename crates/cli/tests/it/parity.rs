//! Greedy tokens of the served text fixture are those of transformers: `fixtures/checks/token_parity.py` asked it.

use std::path::Path;

use serde_json::{Value, json};

use crate::process::Process;
use crate::support::{fixture, succeed};

/// Tokens of each answer.
const STEPS: usize = 256;

fn golden() -> Value {
    let text = std::fs::read(fixture("golden/text/greedy.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn tokens(list: &Value) -> Vec<u64> {
    let list = list.as_array().unwrap().iter();
    list.map(|id| id.as_u64().unwrap()).collect()
}

/// Holds all prompts' answers against an arm of the golden file. They may differ from the first step on at which the two best
/// logits of transformers lie closer than 1e-3, and are another text after that; gives how many do.
fn differing(server: &Process, model: &str, golden: &Value, arm: &str) -> usize {
    let body = json!({"model": model, "prompt": golden["prompts"], "max_tokens": STEPS, "temperature": 0,
        "ignore_eos": true, "return_token_ids": true});
    let (status, answer) = server.post("/v1/completions", &body);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let arm_of = &golden["arms"][arm];
    let prompts = golden["prompts"].as_array().unwrap().len();
    assert!(prompts >= 20);
    let mut differing = 0;
    for prompt in 0..prompts {
        let ours = tokens(&answer["choices"][prompt]["token_ids"]);
        let theirs = tokens(&arm_of["tokens"][prompt]);
        assert_eq!((ours.len(), theirs.len()), (STEPS, STEPS));
        let Some(at) = (0..STEPS).find(|&at| ours[at] != theirs[at]) else {
            continue;
        };
        let close = arm_of["close"][prompt]["step"].as_u64();
        assert!(
            close.is_some_and(|step| at >= step as usize),
            "{arm}, prompt {prompt}: token {at} differs, and no two logits were close before: {close:?}"
        );
        differing += 1;
    }
    differing
}

fn serve(dir: &str, adapter: &Path) -> Process {
    let adapter = format!("lora={}", adapter.display());
    let options = [
        "--served-model-name",
        "base",
        "--kv-dtype",
        "f32",
        "--kv-memory",
        "64MiB",
    ];
    Process::start(
        &[
            &["serve", dir, "--port", "0", "--lora", &adapter],
            &options[..],
        ]
        .concat(),
    )
}

#[test]
fn greedy_tokens_are_those_of_transformers_with_and_without_quantization_and_adapter() {
    let work = tempfile::tempdir().unwrap();
    let (base, tuned) = (
        fixture("tiny-qwen3-text/base"),
        fixture("tiny-qwen3-text/tuned"),
    );
    let (fp8, lora) = (work.path().join("fp8"), work.path().join("lora"));
    let pair = [
        "--base",
        &base,
        "--tuned",
        &tuned,
        "--rank",
        "8",
        "--out",
        lora.to_str().unwrap(),
    ];
    succeed(&[&["extract"], &pair[..]].concat());
    let fp8 = fp8.to_str().unwrap();
    succeed(&["quantize", &base, "--scheme", "fp8-block", "--out", fp8]);
    let golden = golden();
    for (dir, kind) in [(base.as_str(), "bf16"), (fp8, "fp8")] {
        let server = serve(dir, &lora);
        let alone = differing(&server, "base", &golden, kind);
        let adapted = differing(&server, "lora", &golden, &format!("{kind}+lora"));
        println!("{kind}: {alone} and {adapted} answers differ after close logits");
    }
}
