//! Clients that leave, read slowly, or close half of the connection.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::request;
use crate::double::Act;
use crate::server::{Server, config};

const SOON: Duration = Duration::from_secs(10);

fn body(stream: bool) -> Vec<u8> {
    let body = json!({"prompt": "a", "stream": stream, "max_tokens": 500}).to_string();
    request("POST", "/v1/completions", "", body.as_bytes())
}

#[tokio::test]
async fn who_leaves_before_or_while_tokens_come_is_cancelled() {
    let acts = [Act::Hang, Act::Forever(5, Duration::from_millis(5))];
    for act in acts {
        for stream in [false, true] {
            let act = act.clone();
            let server = Server::start(config(), move |_| act.clone()).await;
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(&body(stream)).await.unwrap();
            server.until_active(1).await;
            drop(socket);
            server.until_idle(SOON).await;
            let page = crate::client::get(server.address, "/metrics").await.text();
            assert!(page.contains("finished_reason=\"abort\"} 1"), "{page}");
        }
    }
}

#[tokio::test]
async fn who_closes_half_of_the_connection_has_left() {
    let server = Server::start(config(), |_| Act::Hang).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(&body(true)).await.unwrap();
    server.until_active(1).await;
    socket.shutdown().await.unwrap();
    server.until_idle(SOON).await;
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"));
}

#[tokio::test]
async fn a_hundred_clients_that_leave_leave_nothing_behind() {
    let server = Server::start(config(), |_| Act::Forever(5, Duration::from_millis(1))).await;
    let mut sockets = Vec::new();
    for at in 0..100 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(&body(at % 2 == 0)).await.unwrap();
        sockets.push(socket);
        if at % 7 == 0 {
            sockets.remove(0);
        }
    }
    drop(sockets);
    server.until_idle(SOON).await;
}

#[tokio::test]
async fn a_reader_that_stands_still_stops_its_own_generation_and_nobody_else_s() {
    let mut config = config();
    config.limits.write_timeout = Duration::from_millis(1500);
    let server = Server::start(config, |_| Act::Forever(5, Duration::ZERO)).await;
    let long = json!({"prompt": vec!["a"; 64], "stream": true, "max_tokens": 500, "logprobs": 20})
        .to_string();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut still = socket.connect(server.address).await.unwrap();
    still
        .write_all(&request("POST", "/v1/completions", "", long.as_bytes()))
        .await
        .unwrap();
    server.until_active(64).await;
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = server.engine.tokens.load(Ordering::SeqCst);
        if now == last && now > 0 {
            break;
        }
        last = now;
    }
    assert!(
        last < 64 * 500,
        "all tokens were generated for a reader that reads nothing"
    );
    assert_eq!(server.complete(json!({"max_tokens": 5})).await.status, 200);
    server.until_idle(SOON).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let mut config = config();
    config.limits.write_timeout = Duration::from_millis(400);
    let server = Server::start(config, |_| Act::Forever(5, Duration::ZERO)).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(&body(true)).await.unwrap();
    let mut all = Vec::new();
    let mut piece = [0; 2000];
    loop {
        let count = socket.read(&mut piece).await.unwrap();
        if count == 0 {
            break;
        }
        all.extend_from_slice(&piece[..count]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = crate::client::Answer::parse(&all);
    assert_eq!(answer.chunks().len(), 501);
}
