//! The description says what the server does.

use serde_json::{Value, json};

use crate::client::get;
use crate::server::{Server, with};

fn properties(document: &Value, schema: &str) -> Vec<String> {
    let properties = document["components"]["schemas"][schema]["properties"].as_object();
    properties
        .unwrap_or_else(|| panic!("{schema}"))
        .keys()
        .cloned()
        .collect()
}

#[tokio::test]
async fn every_parameter_of_the_description_is_known() {
    let server = Server::saying("x").await;
    let document = get(server.address, "/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    for (schema, path) in [
        ("CompletionRequest", "/v1/completions"),
        ("ChatCompletionRequest", "/v1/chat/completions"),
        ("TokenizeRequest", "/tokenize"),
        ("DetokenizeRequest", "/detokenize"),
    ] {
        for name in properties(&document, schema) {
            // A value of no known type: whoever takes the field says what it expects.
            let answer = server
                .post(path, json!({(name.clone()): {"\u{1}": []}}))
                .await;
            let text = answer.text();
            assert!(
                !text.contains("unknown parameter") || text.contains(&format!("`{name}.")),
                "{path} {name}: {text}"
            );
        }
        assert_eq!(
            document["components"]["schemas"][schema]["additionalProperties"],
            json!({"type": "null"})
        );
    }
}

#[tokio::test]
async fn every_path_of_the_description_is_there_and_every_reference_holds() {
    let server = Server::saying("x").await;
    let document = get(server.address, "/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 12);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let bytes = crate::client::request(
                &method.to_uppercase(),
                &path.replace("{id}", "tiny"),
                "",
                b"{}",
            );
            let answer = crate::client::Answer::parse(
                &crate::client::exchange(server.address, &bytes).await,
            );
            assert!(
                answer.status != 404 && answer.status != 405,
                "{method} {path}: {}",
                answer.status
            );
            let responses = methods[method]["responses"].as_object().unwrap();
            assert!(
                responses.contains_key(&answer.status.to_string()),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = &reference[..reference.find('"').unwrap()];
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[tokio::test]
async fn the_limits_of_the_description_are_those_of_the_server() {
    let server = Server::saying("x").await;
    let text = get(server.address, "/openapi.json").await.text();
    assert!(!text.contains("\"$max") && !text.contains("\"$last") && !text.contains("\"$min"));
    let document: Value = serde_json::from_str(&text).unwrap();
    let of = |schema: &str, field: &str| {
        document["components"]["schemas"][schema]["properties"][field].clone()
    };
    let completion = |field: &str| of("CompletionRequest", field);
    let cases = [
        ("n", completion("n")["maximum"].clone()),
        ("max_tokens", completion("max_tokens")["maximum"].clone()),
        ("logprobs", completion("logprobs")["maximum"].clone()),
    ];
    for (field, most) in cases {
        let most = most.as_u64().unwrap();
        let body = json!({"max_tokens": 1, (field): most + 1});
        assert_eq!(server.complete(body).await.status, 400, "{field}");
    }
    let most = completion("logprobs")["maximum"].clone();
    assert_eq!(server.complete(json!({"logprobs": most})).await.status, 200);
    let word = of("DetokenizeRequest", "tokens")["items"]["maximum"].as_u64();
    for (id, status) in [(word.unwrap(), 200), (word.unwrap() + 1, 400)] {
        let answer = server.post("/detokenize", json!({"tokens": [id]})).await;
        assert_eq!(answer.status, status, "{id}");
    }
    for key in ["1024", "+5", "05", "-1", ""] {
        let body = json!({"logit_bias": {(key): 1}});
        assert_eq!(server.complete(body).await.status, 400, "{key}");
    }
}

#[tokio::test]
async fn what_the_description_says_of_a_message_is_what_the_server_takes() {
    let server = Server::saying("x").await;
    let document = get(server.address, "/openapi.json").await.json();
    let schemas = &document["components"]["schemas"];
    let call = |more: Value| json!([{"function": with(json!({"name": "f"}), more)}]);
    let cases = [
        ("name", json!("a"), json!(5)),
        ("reasoning", json!("a"), json!(3)),
        ("reasoning_content", json!("a"), json!([])),
        ("thinking", json!("a"), json!({})),
        ("tool_call_id", json!("a"), json!({})),
        ("refusal", json!("a"), json!(1)),
        ("type", json!("text"), json!("image")),
        (
            "tool_calls",
            call(json!({})),
            json!([{"function": {"arguments": {}}}]),
        ),
        (
            "tool_calls",
            call(json!({"arguments": ""})),
            call(json!({"arguments": 1})),
        ),
        (
            "tool_calls",
            call(json!({"arguments": {}})),
            call(json!({"arguments": "no"})),
        ),
    ];
    for (name, taken, refused) in cases {
        assert!(schemas["Message"]["properties"][name].is_object(), "{name}");
        for (value, status) in [(taken, 200), (Value::Null, 200), (refused, 400)] {
            let message = json!({"role": "assistant", "content": "b", (name): value});
            let body = json!({"messages": [{"role": "user", "content": "a"}, message]});
            let answer = server.post("/tokenize", body.clone()).await;
            assert_eq!(answer.status, status, "{body}: {}", answer.text());
            if status == 400 {
                let param = answer.error("param");
                let field = format!("messages[1].{name}");
                assert!(param.as_str().unwrap().starts_with(&field), "{param}");
            }
        }
    }
}
