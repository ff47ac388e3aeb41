//! Requests that nobody means well.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Answer, exchange, get, post, request};
use crate::double::Act;
use crate::server::{Server, config};

#[tokio::test]
async fn a_body_of_64_mib_is_refused_and_the_client_reads_why() {
    let server = Server::saying("x").await;
    let body = vec![b' '; 64 << 20];
    let answer = post(server.address, "/v1/completions", &body).await;
    assert_eq!(
        (answer.status, answer.error("type")),
        (413, json!("RequestTooLargeError"))
    );
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let mut bytes = b"POST /tokenize HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        bytes.extend_from_slice(chunk.as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(
        Answer::parse(&exchange(server.address, &bytes).await).status,
        413
    );
    assert_eq!(server.complete(json!({})).await.status, 200);
}

#[tokio::test]
async fn deep_wide_and_huge_requests_are_answered_quickly() {
    let server = Server::saying("x").await;
    let deep = format!(
        "{{\"prompt\": {}1{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let deep_tools = format!(
        "{{\"messages\": [], \"tools\": {}{}}}",
        "[{\"a\":".repeat(5_000),
        "}]".repeat(5_000)
    );
    let stops = json!({"prompt": "a", "stop": vec!["x"; 100_000]}).to_string();
    let bias: serde_json::Map<_, _> = (0..100_000).map(|id| (id.to_string(), json!(1))).collect();
    let bias = json!({"prompt": "a", "logit_bias": bias}).to_string();
    let many = json!({"prompt": vec!["a"; 100_000]}).to_string();
    let parts =
        json!({"messages": vec![json!({"role": "user", "content": ""}); 100_000]}).to_string();
    let n = json!({"prompt": "a", "n": 1_000_000_000}).to_string();
    for body in [deep, deep_tools, stops, bias, many, parts, n] {
        for path in ["/v1/completions", "/v1/chat/completions"] {
            let start = Instant::now();
            let answer = post(server.address, path, &body).await;
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }
}

#[tokio::test]
async fn nul_bytes_are_text_and_lone_surrogates_are_not() {
    let server = Server::saying("x").await;
    assert_eq!(
        post(
            server.address,
            "/v1/completions",
            br#"{"prompt": "a\u0000b"}"#
        )
        .await
        .status,
        200
    );
    for half in ["\\ud800", "\\udc00", "\\ud800\\u0041"] {
        let body = format!("{{\"messages\": [{{\"role\": \"user\", \"content\": \"{half}\"}}]}}");
        assert_eq!(
            post(server.address, "/v1/chat/completions", body)
                .await
                .status,
            400
        );
    }
    assert_eq!(
        post(
            server.address,
            "/v1/completions",
            b"{\"prompt\": \"\xff\xfe\"}"
        )
        .await
        .status,
        400
    );
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_ends_the_connection() {
    let mut config = config();
    config.limits.head_timeout = Duration::from_millis(200);
    let server = Server::start(config, |_| Act::Hang).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let start = Instant::now();
    let mut answer = Vec::new();
    for byte in "POST /v1/completions HTTP/1.1\r\nhost: a\r\nx-slow: "
        .bytes()
        .cycle()
    {
        if socket.write_all(&[byte]).await.is_err() {
            break;
        }
        let piece =
            tokio::time::timeout(Duration::from_millis(20), socket.read_to_end(&mut answer)).await;
        if piece.is_ok() {
            break;
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let mut config = config();
    config.limits.body_timeout = Duration::from_millis(200);
    let server = Server::start(config, |_| Act::Hang).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket
        .write_all(
            b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"pro",
        )
        .await
        .unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!(
        (answer.status, answer.error("type")),
        (408, json!("RequestTimeoutError"))
    );
}

#[tokio::test]
async fn heads_that_are_too_large_or_mean_two_things_are_refused() {
    let server = Server::saying("x").await;
    let large = request(
        "GET",
        "/health",
        &format!("x-large: {}\r\n", "x".repeat(1 << 20)),
        b"",
    );
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let _ = socket.write_all(&large).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || Answer::parse(&answer).status == 431,
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let both = "POST /v1/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\
                transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = String::from_utf8(exchange(server.address, both.as_bytes()).await).unwrap();
    assert_eq!(
        answer.matches("HTTP/1.1 ").count(),
        1,
        "no second request hides in the first: {answer}"
    );
    let twice =
        "POST /tokenize HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ";
    assert!(
        exchange(server.address, twice.as_bytes())
            .await
            .starts_with(b"HTTP/1.1 400")
    );
    assert!(
        exchange(server.address, b"\x16\x03\x01\x02\x00garbage\r\n\r\n")
            .await
            .len()
            < 200
    );
    assert_eq!(get(server.address, "/health").await.status, 200);
}

#[tokio::test]
async fn requests_that_follow_each_other_at_once_are_answered_in_order() {
    let server = Server::saying("x").await;
    let one = |id: &str, close: &str| {
        let body = r#"{"prompt": "a"}"#;
        format!(
            "POST /v1/completions HTTP/1.1\r\nhost: a\r\n{close}x-request-id: {id}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let bytes = one("r1", "") + &one("r2", "") + &one("r3", "connection: close\r\n");
    let answer = String::from_utf8(exchange(server.address, bytes.as_bytes()).await).unwrap();
    let places: Vec<_> = ["cmpl-r1", "cmpl-r2", "cmpl-r3"]
        .iter()
        .map(|id| answer.find(id).unwrap())
        .collect();
    assert!(places.is_sorted());
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let mut config = config();
    config.limits.connections = 2;
    let server = Server::start(config, |_| Act::Say(vec![5], Duration::ZERO)).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let second = TcpStream::connect(server.address).await.unwrap();
    let address = server.address;
    let third = tokio::spawn(async move { get(address, "/health").await.status });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!third.is_finished());
    drop((first, second));
    assert_eq!(third.await.unwrap(), 200);
}

#[tokio::test]
async fn headers_have_a_limit_of_64_kib() {
    let server = Server::saying("x").await;
    for (bytes, status) in [(60 << 10, 200), (66 << 10, 431), (100 << 10, 431)] {
        let more = format!("x-large: {}\r\n", "x".repeat(bytes));
        let answer = exchange(server.address, &request("GET", "/health", &more, b"")).await;
        assert_eq!(Answer::parse(&answer).status, status, "{bytes}");
    }
}
