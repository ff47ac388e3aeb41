//! What is served, and how it is.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::client::{Answer, exchange, get, request};
use crate::double::Act;
use crate::server::{Server, config, ids};

#[tokio::test]
async fn models_are_the_base_and_its_adapters() {
    let mut config = config();
    config.model_names.push("alias".into());
    let server = Server::start(config, |_| Act::Hang).await;
    server.engine.add_adapter("team/gwas");
    let list = get(server.address, "/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let cards = list["data"].as_array().unwrap();
    let names: Vec<_> = cards
        .iter()
        .map(|card| card["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["tiny", "alias", "team/gwas"]);
    assert_eq!(
        (
            &cards[0]["parent"],
            &cards[0]["root"],
            &cards[0]["max_model_len"]
        ),
        (&json!(null), &json!("models/tiny"), &json!(512))
    );
    assert_eq!(
        (&cards[2]["parent"], &cards[2]["root"]),
        (&json!("tiny"), &json!("adapters/team/gwas"))
    );
    assert_eq!(
        get(server.address, "/v1/models/team/gwas").await.json()["id"],
        "team/gwas"
    );
    assert_eq!(
        get(server.address, "/v1/models/none").await.error("type"),
        "NotFoundError"
    );
}

#[tokio::test]
async fn health_is_the_engine_s() {
    let server = Server::saying("x").await;
    assert_eq!(get(server.address, "/health").await.status, 200);
    server.engine.broken.store(true, Ordering::SeqCst);
    assert_eq!(get(server.address, "/health").await.status, 503);
    assert!(get(server.address, "/version").await.json()["version"].is_string());
}

#[tokio::test]
async fn a_request_keeps_its_id() {
    let server = Server::saying("x").await;
    let body = br#"{"prompt": "a"}"#;
    let bytes = request("POST", "/v1/completions", "x-request-id: abc-1\r\n", body);
    let answer = Answer::parse(&exchange(server.address, &bytes).await);
    assert_eq!(
        (answer.header("x-request-id"), &answer.json()["id"]),
        (Some("abc-1"), &json!("cmpl-abc-1"))
    );
    let bytes = request(
        "GET",
        "/health",
        &format!("x-request-id: {}\r\n", "x".repeat(200)),
        b"",
    );
    let answer = Answer::parse(&exchange(server.address, &bytes).await);
    assert_eq!(answer.header("x-request-id").unwrap().len(), 32);
}

#[tokio::test]
async fn browsers_are_answered_only_if_their_origin_is_allowed() {
    let mut config = config();
    config.cors_origins = vec!["https://a.example".into()];
    let server = Server::start(config, |_| Act::Hang).await;
    for (origin, allowed) in [("https://a.example", true), ("https://b.example", false)] {
        let bytes = request(
            "OPTIONS",
            "/v1/models",
            &format!("origin: {origin}\r\n"),
            b"",
        );
        let answer = Answer::parse(&exchange(server.address, &bytes).await);
        assert_eq!(
            answer.header("access-control-allow-origin").is_some(),
            allowed
        );
        assert_eq!(answer.status == 204, allowed);
    }
    let closed = Server::saying("x").await;
    let bytes = request("GET", "/health", "origin: https://a.example\r\n", b"");
    let answer = Answer::parse(&exchange(closed.address, &bytes).await);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_expect() {
    let server = Server::saying("abc").await;
    server.engine.add_adapter("gwas");
    server.complete(json!({})).await;
    server.complete(json!({"max_tokens": 1})).await;
    let answer = get(server.address, "/metrics").await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let page = answer.text();
    let tokens = ids("abc").len() + 2;
    let lines = [
        "vllm:num_requests_running{model_name=\"tiny\"} 0".to_owned(),
        "vllm:num_requests_waiting{model_name=\"tiny\"} 0".to_owned(),
        "vllm:kv_cache_usage_perc{model_name=\"tiny\"} 0.25".to_owned(),
        "vllm:num_preemptions_total{model_name=\"tiny\"} 0".to_owned(),
        "vllm:prefix_cache_queries_total{model_name=\"tiny\"} 0".to_owned(),
        "vllm:prefix_cache_hits_total{model_name=\"tiny\"} 0".to_owned(),
        "vllm:prompt_tokens_total{model_name=\"tiny\"} 0".to_owned(),
        format!("vllm:generation_tokens_total{{model_name=\"tiny\"}} {tokens}"),
        "vllm:time_to_first_token_seconds_count{model_name=\"tiny\"} 2".to_owned(),
        format!("vllm:inter_token_latency_seconds_count{{model_name=\"tiny\"}} {}", tokens - 2),
        "vllm:e2e_request_latency_seconds_count{model_name=\"tiny\"} 2".to_owned(),
        "vllm:request_queue_time_seconds_count{model_name=\"tiny\"} 2".to_owned(),
        "vllm:request_success_total{model_name=\"tiny\",finished_reason=\"stop\"} 1".to_owned(),
        "vllm:request_success_total{model_name=\"tiny\",finished_reason=\"length\"} 1".to_owned(),
        "vllm:lora_requests_info{model_name=\"tiny\",max_lora=\"64\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"}".to_owned(),
    ];
    for line in lines {
        assert!(page.contains(&line), "{line} is missing in\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
}

#[tokio::test]
async fn tokens_there_and_back() {
    let server = Server::saying("x").await;
    let answer = server
        .post(
            "/tokenize",
            json!({"prompt": "Pick µ", "return_token_strs": true}),
        )
        .await
        .json();
    assert_eq!(
        (
            &answer["tokens"],
            &answer["count"],
            &answer["max_model_len"]
        ),
        (
            &json!(ids("Pick µ")),
            &json!(ids("Pick µ").len()),
            &json!(512)
        )
    );
    assert_eq!(
        answer["token_strs"].as_array().unwrap().len(),
        ids("Pick µ").len()
    );
    let back = server
        .post("/detokenize", json!({"tokens": answer["tokens"]}))
        .await
        .json();
    assert_eq!(back["prompt"], "Pick µ");
    let chat =
        json!({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": false});
    let answer = server.post("/tokenize", chat).await.json();
    assert_eq!(
        answer["tokens"],
        json!(ids("<|im_start|>user\na<|im_end|>\n"))
    );
    assert_eq!(
        server
            .post("/detokenize", json!({"tokens": [5000]}))
            .await
            .error("param"),
        "tokens"
    );
    assert_eq!(
        server.post("/tokenize", json!({})).await.error("param"),
        "prompt"
    );
    assert_eq!(
        server
            .post("/tokenize", json!({"prompt": "a", "model": "none"}))
            .await
            .status,
        404
    );
}
