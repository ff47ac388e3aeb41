//! The description says what the server does.

use serde_json::{Value, json};

use crate::client::get;
use crate::server::Server;

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
            false
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
