//! Clients and backends that mean no good.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::balancer::{Balancer, config};
use crate::client::{self, Answer, exchange};
use crate::scripted::{Act, Scripted, completion};

#[tokio::test]
async fn a_request_with_two_lengths_reaches_a_backend_as_one() {
    let backend = Scripted::saying("ok").await;
    let balancer = Balancer::over(&[&backend]).await;
    let inner = "GET /v1/secret HTTP/1.1\r\nhost: x\r\n\r\n";
    let both = [
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n",
        &format!(
            "content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            inner.len() + 5
        ),
        "0\r\n\r\n",
        inner,
    ]
    .concat();
    let answered = exchange(balancer.address, both.as_bytes()).await;
    let cases = [
        "content-length: 5\r\ncontent-length: 6\r\n\r\n{\"a\":1}",
        "content-length: +7\r\n\r\n{\"a\":1}",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "content-length : 7\r\n\r\n{\"a\":1}",
    ];
    for case in cases {
        let bytes =
            format!("POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{case}");
        let answer = Answer::parse(&exchange(balancer.address, bytes.as_bytes()).await);
        assert_eq!(answer.status, 400, "{case}");
    }
    let asked = backend.asked.lock().unwrap();
    // Each message that a backend gets was framed anew, with one length that is its own.
    assert!(
        asked.iter().all(|asked| !asked.path.contains("secret")),
        "{asked:?}"
    );
    assert!(asked.len() <= 1, "{asked:?}");
    assert!(
        String::from_utf8_lossy(&answered)
            .matches("HTTP/1.1 ")
            .count()
            <= 1
    );
}

#[tokio::test]
async fn large_heads_and_bodies_are_refused() {
    let backend = Scripted::saying("ok").await;
    let mut config = config(&[backend.url()]);
    config.limits.body = 1000;
    let balancer = Balancer::start(config).await;
    balancer.until_up(1).await;
    let head = format!("x-large: {}\r\n", "a".repeat(100_000));
    let bytes = client::request("POST", "/v1/completions", &head, "{}");
    assert_eq!(
        Answer::parse(&exchange(balancer.address, &bytes).await).status,
        431
    );
    let answer = balancer
        .post("/v1/completions", json!({"prompt": "a".repeat(1500)}))
        .await;
    assert_eq!((answer.status, backend.count()), (413, 0));
    let answer = balancer
        .post("/v1/completions", json!({"prompt": "a".repeat(900)}))
        .await;
    assert_eq!((answer.status, backend.count()), (200, 1));
}

#[tokio::test]
async fn a_body_in_many_pieces_arrives_whole() {
    let backend = Scripted::saying("ok").await;
    let balancer = Balancer::over(&[&backend]).await;
    let prompt = "0123456789".repeat(300_000);
    let answer = balancer
        .post("/v1/completions", json!({"prompt": prompt}))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        backend.asked.lock().unwrap()[0].json()["prompt"],
        prompt.as_str()
    );
    let chunked = "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
    exchange(balancer.address, chunked.as_bytes()).await;
    assert_eq!(backend.asked.lock().unwrap()[1].json(), json!({"a": 1}));
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let backend = Scripted::saying("ok").await;
    let mut config = config(&[backend.url()]);
    config.limits.head_timeout = Duration::from_millis(300);
    config.limits.body_timeout = Duration::from_millis(300);
    let balancer = Balancer::start(config).await;
    balancer.until_up(1).await;
    for beginning in [
        "GET / HT",
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
    ] {
        let start = Instant::now();
        let mut socket = TcpStream::connect(balancer.address).await.unwrap();
        socket.write_all(beginning.as_bytes()).await.unwrap();
        let mut end = Vec::new();
        let _ = socket.read_to_end(&mut end).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{beginning}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_backend_that_dribbles_its_head_is_given_up_in_time() {
    let slow = Scripted::start(|asked| {
        if asked.path == "/health" || asked.path == "/v1/models" {
            return vec![Act::Write(completion("well"))];
        }
        let letter = || {
            [
                Act::Write(b"x".to_vec()),
                Act::Sleep(Duration::from_millis(50)),
            ]
        };
        let mut acts = vec![Act::Write(b"HTTP/1.1 200 OK\r\nx: ".to_vec())];
        acts.extend((0..400).flat_map(|_| letter()));
        acts
    })
    .await;
    let mut config = config(&[slow.url()]);
    config.limits.request_timeout = Duration::from_secs(1);
    let balancer = Balancer::start(config).await;
    balancer.until_up(1).await;
    let start = Instant::now();
    assert_eq!(balancer.chat(json!({})).await.status, 504);
    assert!(start.elapsed() < Duration::from_secs(5));
    balancer.until_at_rest().await;
}

#[tokio::test]
async fn more_bytes_than_announced_are_nobody_elses_answer() {
    let liar = Scripted::start(|asked| {
        let mut bytes = completion("true");
        if asked.path == "/v1/chat/completions" {
            bytes.extend(completion("false"));
        }
        vec![Act::Write(bytes)]
    })
    .await;
    let balancer = Balancer::over(&[&liar]).await;
    for _ in 0..20 {
        assert_eq!(balancer.chat(json!({})).await.said(), "true");
    }
}
