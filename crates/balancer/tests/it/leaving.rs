//! Clients that leave, in every phase.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::balancer::{Balancer, config};
use crate::client::request;
use crate::scripted::{Act, STREAM_HEAD, Scripted, chunk, completion, event};

async fn until_idle(backend: &Scripted) {
    let start = Instant::now();
    while backend.active.load(Ordering::SeqCst) > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the backend still works"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A backend that never finishes: nothing, a head, or a head and an event.
async fn endless(begun: Vec<u8>) -> Scripted {
    Scripted::start(move |asked| {
        if asked.path == "/health" || asked.path == "/v1/models" {
            return vec![Act::Write(completion("well"))];
        }
        vec![Act::Write(begun.clone()), Act::Hang]
    })
    .await
}

#[tokio::test]
async fn a_client_that_leaves_is_left_everywhere() {
    let begun = [
        STREAM_HEAD.as_bytes().to_vec(),
        chunk(&event("{\"content\":\"a\"}")),
    ]
    .concat();
    let phases = [Vec::new(), STREAM_HEAD.as_bytes().to_vec(), begun];
    for phase in phases {
        let shows = phase.len() > STREAM_HEAD.len();
        let backend = endless(phase).await;
        let balancer = Balancer::over(&[&backend]).await;
        let bytes = request("POST", "/v1/chat/completions", "", "{\"stream\":true}");
        let mut socket = TcpStream::connect(balancer.address).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        while backend.count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if shows {
            let mut some = [0; 64];
            assert!(socket.read(&mut some).await.unwrap() > 0);
        }
        drop(socket);
        until_idle(&backend).await;
        balancer.until_at_rest().await;
        let left = |status: &serde_json::Value| status["left"] == 1;
        balancer.until("left", left).await;
    }
}

#[tokio::test]
async fn one_that_leaves_the_queue_is_not_served() {
    let backend = endless(Vec::new()).await;
    let mut config = config(&[backend.url()]);
    config.limits.in_flight = 1;
    let balancer = Balancer::start(config).await;
    balancer.until_up(1).await;
    let bytes = request("POST", "/v1/completions", "", "{}");
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(balancer.address).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        sockets.push(socket);
    }
    balancer
        .until("two waiting", |status| status["waiting"] == 2)
        .await;
    sockets.truncate(1);
    balancer
        .until("none waiting", |status| status["waiting"] == 0)
        .await;
    assert_eq!(backend.count(), 1);
    sockets.clear();
    balancer.until_at_rest().await;
    until_idle(&backend).await;
}

#[tokio::test]
async fn half_a_request_leaves_nothing() {
    let backend = Scripted::saying("ok").await;
    let balancer = Balancer::over(&[&backend]).await;
    let bytes = request("POST", "/v1/completions", "", "{\"model\": \"m\"}");
    for length in (0..bytes.len()).step_by(11) {
        let mut socket = TcpStream::connect(balancer.address).await.unwrap();
        socket.write_all(&bytes[..length]).await.unwrap();
    }
    balancer.until_at_rest().await;
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn who_runs_when_the_end_comes_is_answered() {
    let backend = Scripted::start(|asked| {
        let well = ["/health", "/v1/models"].contains(&asked.path.as_str());
        let wait = Duration::from_millis(if well { 0 } else { 300 });
        vec![Act::Sleep(wait), Act::Write(completion("late"))]
    })
    .await;
    let balancer = Balancer::over(&[&backend]).await;
    let address = balancer.address;
    let asked = tokio::spawn(async move {
        let body = serde_json::json!({});
        crate::client::send(address, "POST", "/v1/completions", "", &body).await
    });
    while backend.count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    balancer.stop().await;
    assert_eq!(asked.await.unwrap().said(), "late");
    assert!(TcpStream::connect(address).await.is_err());
}
