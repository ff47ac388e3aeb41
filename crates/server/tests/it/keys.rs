//! API keys.

use std::time::Duration;

use serde_json::json;
use xgraft_server::{ApiKey, RuntimeAdapters};

use crate::client::{Answer, exchange, request};
use crate::double::Act;
use crate::server::{Server, config};

async fn status(server: &Server, method: &str, path: &str, header: &str) -> u16 {
    let headers = if header.is_empty() {
        String::new()
    } else {
        format!("authorization: {header}\r\n")
    };
    Answer::parse(&exchange(server.address, &request(method, path, &headers, b"{}")).await).status
}

#[tokio::test]
async fn only_who_knows_a_key_gets_past_the_open_paths() {
    let mut config = config();
    config.api_keys = vec![
        ApiKey::new("one").unwrap(),
        ApiKey::new("two-and-longer").unwrap(),
    ];
    let server = Server::start(config, |_| Act::Say(vec![5], Duration::ZERO)).await;
    let guarded = [
        ("POST", "/v1/completions"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/tiny"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
    ];
    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer on",
        "Bearer onee",
        "Bearer One",
        "Basic one",
        "one",
        "Bearer one two-and-longer",
    ];
    for (method, path) in guarded {
        for header in wrong {
            assert_eq!(
                status(&server, method, path, header).await,
                401,
                "{path} {header}"
            );
        }
        for header in ["Bearer one", "bearer two-and-longer", "Bearer  one"] {
            assert_ne!(
                status(&server, method, path, header).await,
                401,
                "{path} {header}"
            );
        }
    }
    for path in ["/health", "/version", "/metrics", "/openapi.json"] {
        assert_eq!(status(&server, "GET", path, "").await, 200);
    }
    let answer = server.complete(json!({})).await;
    assert_eq!(
        (answer.error("type"), answer.header("www-authenticate")),
        (json!("AuthenticationError"), Some("Bearer"))
    );
    assert!(server.engine.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_admin_key_is_another_key() {
    let mut config = config();
    config.api_keys = vec![ApiKey::new("user").unwrap()];
    config.admin_keys = vec![ApiKey::new("admin").unwrap()];
    config.runtime_adapters = RuntimeAdapters::Anywhere;
    let server = Server::start(config, |_| Act::Hang).await;
    assert_eq!(
        status(&server, "POST", "/v1/load_lora_adapter", "Bearer user").await,
        401
    );
    assert_eq!(
        status(&server, "POST", "/v1/load_lora_adapter", "Bearer admin").await,
        400
    );
    assert_eq!(
        status(&server, "GET", "/v1/models", "Bearer admin").await,
        401
    );
}

#[test]
fn a_key_is_never_shown_and_never_empty() {
    let key = ApiKey::new("very-secret").unwrap();
    let mut config = config();
    config.api_keys = vec![key];
    assert!(!format!("{config:?}").contains("secret"));
    for wrong in ["", "a b", "ä", "a\n"] {
        assert!(ApiKey::new(wrong).is_err());
    }
}
