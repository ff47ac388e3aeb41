//! HTTP over the real scheduler, over a model that is scripted: the parts agree on their contract.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xgraft_server::engine::double::{Script, ScriptedForward};
use xgraft_server::engine::{Engine, EngineConfig, LocalEngine};
use xgraft_server::{GenerationDefaults, RuntimeAdapters};

use crate::client::{get, post_json, request};
use crate::server::{config, start, with};

fn engine(step: Duration) -> Arc<LocalEngine<ScriptedForward>> {
    let mut script = Script::new(256);
    script.capacity.vocab_size = 1024;
    script.step_time = step;
    Arc::new(LocalEngine::start(ScriptedForward::new(script), EngineConfig::default()).unwrap())
}

/// Nothing ends a text early, so that lengths are known.
fn endless() -> xgraft_server::ServerConfig {
    let mut config = config();
    config.defaults = GenerationDefaults::default();
    config
}

async fn until_empty(engine: &impl Engine) {
    let start = Instant::now();
    while engine.stats().running + engine.stats().waiting + engine.stats().blocks_used > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            engine.stats()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn ids_of(chunks: &[Value]) -> Vec<u64> {
    let choices = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["token_ids"].as_array());
    choices.flatten().map(|id| id.as_u64().unwrap()).collect()
}

fn text_of(chunks: &[Value]) -> String {
    chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect()
}

#[tokio::test]
async fn a_seed_gives_the_same_text_again_and_a_continuation_the_rest_of_it() {
    let engine = engine(Duration::ZERO);
    let (address, _stop, _task) = start(endless(), engine.clone()).await;
    let base = json!({"prompt": "Pick", "max_tokens": 40, "seed": 11, "temperature": 0.9, "top_k": 50, "stream": true,
        "return_token_ids": true, "repetition_penalty": 1.1});
    let whole = post_json(address, "/v1/completions", &base).await.chunks();
    let again = post_json(address, "/v1/completions", &base).await.chunks();
    let (ids, text) = (ids_of(&whole), text_of(&whole));
    assert_eq!(ids.len(), 40);
    assert_eq!(
        (ids_of(&again), text_of(&again)),
        (ids.clone(), text.clone())
    );
    for cut in [1, 13, 39] {
        let body = with(
            base.clone(),
            json!({"continue_from": {"token_ids": &ids[..cut]}}),
        );
        let rest = post_json(address, "/v1/completions", &body).await.chunks();
        assert_eq!(ids_of(&rest), ids[cut..]);
        assert!(text.ends_with(&text_of(&rest)));
    }
    let other = with(base, json!({"seed": 12}));
    assert_ne!(
        ids_of(&post_json(address, "/v1/completions", &other).await.chunks()),
        ids
    );
    until_empty(&*engine).await;
}

#[tokio::test]
async fn a_form_is_kept_logprobs_are_sorted_and_echo_has_the_prompt_s() {
    let engine = engine(Duration::ZERO);
    let (address, _stop, _task) = start(config(), engine.clone()).await;
    let body = json!({"prompt": "Pick", "structured_outputs": {"regex": "[ab]{5}"}, "seed": 1});
    let answer = post_json(address, "/v1/completions", &body).await.json();
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert!(
        text.len() == 5 && text.bytes().all(|byte| b"ab".contains(&byte)),
        "{text:?}"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let body = json!({"prompt": [1, 2, 3, 4, 5], "echo": true, "logprobs": 3, "max_tokens": 0, "return_tokens_as_token_ids": true});
    let answer = post_json(address, "/v1/completions", &body).await.json();
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 5, "{answer}");
    for position in 1..5 {
        let top: Vec<f64> = logprobs["top_logprobs"][position]
            .as_object()
            .unwrap()
            .values()
            .map(|value| value.as_f64().unwrap())
            .collect();
        assert!(top[..3].is_sorted_by(|a, b| a >= b) && top.iter().all(|value| *value < 0.0));
    }
    until_empty(&*engine).await;
}

#[tokio::test]
async fn clients_that_leave_free_their_blocks() {
    let engine = engine(Duration::from_millis(1));
    let (address, _stop, _task) = start(endless(), engine.clone()).await;
    let mut tasks = Vec::new();
    for at in 0..60_u64 {
        let body =
            json!({"prompt": format!("Pick {at}"), "max_tokens": 300, "stream": at % 2 == 0})
                .to_string();
        tasks.push(tokio::spawn(async move {
            let bytes = request("POST", "/v1/completions", "", body.as_bytes());
            let _left = tokio::time::timeout(
                Duration::from_millis(7 * (at % 20)),
                crate::client::exchange(address, &bytes),
            )
            .await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    until_empty(&*engine).await;
}

#[tokio::test]
async fn an_adapter_of_the_real_registry_is_served_by_its_name() {
    let root = tempfile::tempdir().unwrap();
    crate::adapters::adapter(&root.path().join("17"));
    let mut config = endless();
    config.runtime_adapters = RuntimeAdapters::Below(root.path().to_owned());
    let engine = engine(Duration::ZERO);
    let (address, _stop, _task) = start(config, engine.clone()).await;
    let load = json!({"lora_name": "gwas", "lora_path": "17"});
    assert_eq!(
        post_json(address, "/v1/load_lora_adapter", &load)
            .await
            .status,
        200
    );
    let greedy = |model: &str| json!({"model": model, "prompt": [5, 6], "max_tokens": 8, "temperature": 0, "return_token_ids": true});
    let base = post_json(address, "/v1/completions", &greedy("tiny"))
        .await
        .json();
    let tuned = post_json(address, "/v1/completions", &greedy("gwas"))
        .await
        .json();
    assert_ne!(
        base["choices"][0]["token_ids"],
        tuned["choices"][0]["token_ids"]
    );
    let script = {
        let mut script = Script::new(256);
        script.capacity.vocab_size = 1024;
        script
    };
    assert_eq!(
        base["choices"][0]["token_ids"],
        json!(script.greedy(0, &[5, 6], 8))
    );
    let cards = get(address, "/v1/models").await.json();
    assert!(Path::new(cards["data"][1]["root"].as_str().unwrap()).ends_with("17"));
    assert_eq!(cards["data"][1]["parent"], "tiny");
}
