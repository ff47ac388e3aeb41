//! The end of a server: what runs finishes, what comes is told to go elsewhere.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Answer, exchange, get, post, request};
use crate::double::Act;
use crate::server::{Server, config, ids};

/// A server that has been told to end while one stream runs, for about a second.
async fn draining() -> (Server, tokio::task::JoinHandle<Answer>) {
    let mut server = Server::start(config(), |_| {
        Act::Say(ids("abcdefghij"), Duration::from_millis(100))
    })
    .await;
    let address = server.address;
    let body = json!({"prompt": "a", "stream": true}).to_string();
    let running = tokio::spawn(async move { post(address, "/v1/completions", body).await });
    server.until_active(1).await;
    server.stop();
    while !server.engine.draining.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (server, running)
}

#[tokio::test]
async fn at_its_end_a_server_lets_running_requests_finish_and_refuses_new_ones() {
    let (mut server, running) = draining().await;
    let address = server.address;
    let body = json!({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}).to_string();
    for path in [
        "/v1/completions",
        "/v1/chat/completions",
        "/tokenize",
        "/v1/load_lora_adapter",
    ] {
        let answer = post(address, path, &body).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1")),
            "{path}"
        );
        assert_eq!(answer.error("type"), "ServiceUnavailableError");
    }
    for path in ["/health", "/v1/models"] {
        assert_eq!(get(address, path).await.status, 503, "{path}");
    }
    assert_eq!(get(address, "/metrics").await.status, 200);
    let large = post(address, "/v1/completions", vec![b' '; 1 << 20]).await;
    assert_eq!(large.status, 503);
    assert!(!running.is_finished(), "all that while it was answered");
    let chunks = running.await.unwrap().chunks();
    let last = &chunks.last().unwrap()["choices"][0];
    assert_eq!(last["finish_reason"], "stop");
    (&mut server.task).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_connection_that_is_idle_or_came_late_does_not_keep_a_server() {
    let server = Server::saying("x").await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let mut server = server;
    server.stop();
    let start = Instant::now();
    (&mut server.task).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(idle);

    let (mut server, running) = draining().await;
    let mut late = TcpStream::connect(server.address).await.unwrap();
    late.write_all(b"POST /v1/completions HTTP/1.1\r\n")
        .await
        .unwrap();
    running.await.unwrap().chunks();
    let start = Instant::now();
    (&mut server.task).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off() {
    let mut config = config();
    config.limits.drain_timeout = Duration::from_millis(50);
    let mut server = Server::start(config, |_| Act::Hang).await;
    let address = server.address;
    let hanging = tokio::spawn(async move {
        exchange(
            address,
            &request("POST", "/v1/completions", "", br#"{"prompt": "a"}"#),
        )
        .await
    });
    server.until_active(1).await;
    server.stop();
    (&mut server.task).await.unwrap();
    assert!(hanging.await.unwrap().is_empty());
    server.until_idle(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_request_that_was_half_sent_does_not_keep_a_server() {
    let head = "POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let body = format!("{head}content-length: 1000\r\n\r\n{{\"prompt\"");
    for half in [&head[..30], body.as_str()] {
        let (mut server, running) = draining_after(half).await;
        let start = Instant::now();
        let chunks = running.await.unwrap().chunks();
        let last = &chunks.last().unwrap()["choices"][0];
        assert_eq!(
            last["finish_reason"], "stop",
            "what is answered is answered whole"
        );
        (&mut server.task).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "{half}");
    }
}

/// The same with a client that sent this and no more.
async fn draining_after(half: &str) -> (Server, tokio::task::JoinHandle<Answer>) {
    let mut server = Server::start(config(), |_| {
        Act::Say(
            ids("abcdefghijabcdefghijabcdefghij"),
            Duration::from_millis(100),
        )
    })
    .await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(half.as_bytes()).await.unwrap();
    let address = server.address;
    let body = json!({"prompt": "a", "stream": true, "max_tokens": 30}).to_string();
    let running = tokio::spawn(async move { post(address, "/v1/completions", body).await });
    server.until_active(1).await;
    server.stop();
    tokio::spawn(async move {
        // Longer than any test, shorter than the server would wait for it.
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(slow);
    });
    (server, running)
}
