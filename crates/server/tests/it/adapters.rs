//! Adapters at run time.

use std::time::Duration;

use serde_json::json;
use xgraft_server::RuntimeAdapters;

use crate::client::get;
use crate::double::Act;
use crate::server::{Server, config};

/// What looks like an adapter; the engine of these tests reads none.
pub(crate) fn adapter(dir: &std::path::Path) {
    std::fs::create_dir(dir).unwrap();
    std::fs::write(dir.join("adapter_config.json"), "{}").unwrap();
}

async fn server_with(allowed: RuntimeAdapters) -> Server {
    let mut config = config();
    config.runtime_adapters = allowed;
    config.max_adapters = 2;
    Server::start(config, |_| Act::Say(vec![5], Duration::ZERO)).await
}

#[tokio::test]
async fn an_adapter_is_loaded_used_replaced_and_unloaded() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        adapter(&root.path().join(name));
    }
    let server = server_with(RuntimeAdapters::Below(root.path().to_owned())).await;
    let load = async |name: &str, path: &str, replace: bool| {
        let body = json!({"lora_name": name, "lora_path": path, "load_inplace": replace});
        server.post("/v1/load_lora_adapter", body).await
    };
    let answer = load("gwas", "a", false).await;
    assert_eq!(
        (answer.status, answer.text()),
        (
            200,
            "Success: LoRA adapter 'gwas' added successfully.".to_owned()
        )
    );
    let answer = server.complete(json!({"model": "gwas"})).await;
    assert_eq!(answer.json()["model"], "gwas");
    assert_eq!(server.seen().adapter.as_deref(), Some("gwas"));
    assert_eq!(load("gwas", "b", false).await.error("param"), "lora_name");
    assert_eq!(load("gwas", "b", true).await.status, 200);
    assert_eq!(load("second", "b", false).await.status, 200);
    assert_eq!(
        load("third", "b", false).await.status,
        400,
        "there is room for two"
    );
    assert_eq!(
        load("gwas", "a", true).await.status,
        200,
        "a replacement takes no room"
    );
    let answer = server
        .post("/v1/unload_lora_adapter", json!({"lora_name": "gwas"}))
        .await;
    assert_eq!(
        (answer.status, answer.text()),
        (
            200,
            "Success: LoRA adapter 'gwas' removed successfully.".to_owned()
        )
    );
    assert_eq!(server.complete(json!({"model": "gwas"})).await.status, 404);
    let answer = server
        .post("/v1/unload_lora_adapter", json!({"lora_name": "gwas"}))
        .await;
    assert_eq!(
        (answer.status, answer.error("type")),
        (404, json!("NotFoundError"))
    );
    assert_eq!(
        get(server.address, "/v1/models").await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn paths_outside_and_names_that_would_confuse_are_refused() {
    let root = tempfile::tempdir().unwrap();
    adapter(&root.path().join("a"));
    adapter(&root.path().join("bad"));
    std::fs::write(root.path().join("bad/broken"), "").unwrap();
    let server = server_with(RuntimeAdapters::Below(root.path().to_owned())).await;
    let paths = [
        ("", 400),
        ("..", 404),
        ("/etc", 404),
        ("none", 404),
        ("a/../..", 404),
        ("a\0", 400),
        ("bad", 400),
    ];
    for (path, status) in paths {
        let answer = server
            .post(
                "/v1/load_lora_adapter",
                json!({"lora_name": "x", "lora_path": path}),
            )
            .await;
        assert_eq!(
            (answer.status, answer.error("param")),
            (status, json!("lora_path")),
            "{path}"
        );
    }
    for name in [
        "",
        "tiny",
        "a b",
        "a,b",
        "a\n",
        "a\u{7f}",
        "a\u{85}",
        &"x".repeat(129),
    ] {
        let answer = server
            .post(
                "/v1/load_lora_adapter",
                json!({"lora_name": name, "lora_path": "a"}),
            )
            .await;
        assert_eq!(
            (answer.status, answer.error("param")),
            (400, json!("lora_name")),
            "{name}"
        );
    }
    assert_eq!(
        get(server.address, "/v1/models").await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn adapters_that_take_long_to_read_hold_up_nobody_but_other_adapters() {
    let root = tempfile::tempdir().unwrap();
    adapter(&root.path().join("a"));
    let mark = root.path().join("a/slow");
    std::fs::write(&mark, "").unwrap();
    let mut config = config();
    config.runtime_adapters = RuntimeAdapters::Below(root.path().to_owned());
    let server = Server::start(config, |_| Act::Say(vec![5], Duration::ZERO)).await;
    let address = server.address;
    let loads: Vec<_> = (0..40)
        .map(|at| {
            let body = json!({"lora_name": format!("a{at}"), "lora_path": "a"});
            tokio::spawn(async move {
                let path = "/v1/load_lora_adapter";
                crate::client::post_json(address, path, &body).await.status
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.chat(json!({})).await.status, 200);
    assert_eq!(server.complete(json!({})).await.status, 200);
    assert!(loads.iter().all(|load| !load.is_finished()));
    std::fs::remove_file(mark).unwrap();
    for load in loads {
        assert_eq!(load.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_server_that_was_not_told_to_allow_it_allows_nothing() {
    let server = server_with(RuntimeAdapters::Refused).await;
    for path in ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"] {
        let answer = server
            .post(path, json!({"lora_name": "x", "lora_path": "/"}))
            .await;
        assert_eq!(
            (answer.status, answer.error("type")),
            (403, json!("PermissionDeniedError"))
        );
    }
}
