//! Many clients at once; the long versions take their time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use xgraft_server::RuntimeAdapters;
use xgraft_server::engine::double::{Script, ScriptedForward};
use xgraft_server::engine::{Engine, EngineConfig, LocalEngine};

use crate::client::{get, post_json, request};
use crate::double::Act;
use crate::server::{Server, config, start};

/// Prompts of a slow reader's request: more than the system's own buffers of a connection take.
const PROMPTS: usize = 24;

/// Median time of a short request.
async fn median(server: &Server, count: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        assert_eq!(server.complete(json!({"max_tokens": 5})).await.status, 200);
        times.push(start.elapsed());
    }
    times.sort();
    times[count / 2]
}

/// Some clients read ten bytes a second; what they do not read is not generated, and nobody else waits for it.
async fn slow_readers(count: usize, long: Duration) {
    let server = Server::start(config(), |_| Act::Forever(5, Duration::ZERO)).await;
    let alone = median(&server, 21).await;
    let before = server.engine.tokens.load(Ordering::SeqCst);
    let body =
        json!({"prompt": vec!["a"; PROMPTS], "max_tokens": 500, "stream": true, "logprobs": 20})
            .to_string();
    let mut readers = Vec::new();
    for _ in 0..count {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut socket = socket.connect(server.address).await.unwrap();
        socket
            .write_all(&request("POST", "/v1/completions", "", body.as_bytes()))
            .await
            .unwrap();
        readers.push(tokio::spawn(async move {
            let start = Instant::now();
            let mut piece = [0; 1];
            while start.elapsed() < long {
                socket.read_exact(&mut piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }
    server.until_active(PROMPTS * count).await;
    let mut last = u64::MAX;
    while server.engine.tokens.load(Ordering::SeqCst) != last {
        last = server.engine.tokens.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let generated = last - before;
    assert!(
        generated < (count * PROMPTS * 500) as u64,
        "{generated} tokens for readers who did not read them"
    );
    let crowded = median(&server, 21).await;
    assert!(
        crowded < alone * 10 + Duration::from_millis(50),
        "{alone:?} alone, {crowded:?} among slow readers"
    );
    for reader in readers {
        reader.await.unwrap();
    }
    server.until_idle(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn readers_of_ten_bytes_a_second_hold_up_nobody_else() {
    slow_readers(8, Duration::from_secs(2)).await;
}

#[tokio::test]
#[ignore = "slow: two hundred readers for half a minute"]
async fn two_hundred_readers_of_ten_bytes_a_second_hold_up_nobody_else() {
    slow_readers(200, Duration::from_secs(30)).await;
}

/// Adapters are replaced while streams run: every stream is served to its end by the version that it began with.
async fn hot_swap(swaps: u64, pause: Duration) {
    let root = tempfile::tempdir().unwrap();
    for version in 1..=2 {
        crate::adapters::adapter(&root.path().join(version.to_string()));
    }
    let mut config = config();
    config.defaults = xgraft_server::GenerationDefaults::default();
    config.runtime_adapters = RuntimeAdapters::Below(root.path().to_owned());
    let mut script = Script::new(1024);
    script.capacity.vocab_size = 1024;
    script.step_time = Duration::from_millis(1);
    let forward = ScriptedForward::new(script);
    let engine = Arc::new(LocalEngine::start(forward, EngineConfig::default()).unwrap());
    let (address, _stop, _task) = start(config, engine.clone()).await;
    let load = async |version: u64| {
        let body =
            json!({"lora_name": "gwas", "lora_path": version.to_string(), "load_inplace": true});
        assert_eq!(
            post_json(address, "/v1/load_lora_adapter", &body)
                .await
                .status,
            200
        );
    };
    load(1).await;
    let over = Arc::new(AtomicBool::new(false));
    let expected: Arc<Vec<_>> = Arc::new(
        (1..=2)
            .map(|version| script.greedy(version, &[7, 8, 9], 60))
            .collect(),
    );
    let streams: Vec<_> = (0..32)
        .map(|_| {
            let (over, expected) = (over.clone(), expected.clone());
            tokio::spawn(async move {
                let mut served = 0;
                while !over.load(Ordering::SeqCst) {
                    let body = json!({"model": "gwas", "prompt": [7, 8, 9], "max_tokens": 60, "temperature": 0,
                        "stream": true, "return_token_ids": true});
                    let chunks = post_json(address, "/v1/completions", &body).await.chunks();
                    let ids = chunks.iter().filter_map(|chunk| chunk["choices"][0]["token_ids"].as_array());
                    let ids: Vec<u32> = ids.flatten().map(|id| id.as_u64().unwrap() as u32).collect();
                    assert!(expected.contains(&ids), "a stream of two versions, or of none");
                    served += 1;
                }
                served
            })
        })
        .collect();
    for swap in 0..swaps {
        tokio::time::sleep(pause).await;
        load(1 + swap % 2).await;
    }
    over.store(true, Ordering::SeqCst);
    for stream in streams {
        assert!(stream.await.unwrap() > 0);
    }
    let stats = engine.stats();
    assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0));
    assert_eq!(
        get(address, "/v1/models").await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn an_adapter_is_replaced_under_32_streams() {
    hot_swap(8, Duration::from_millis(50)).await;
}

#[tokio::test]
#[ignore = "slow: replaces an adapter five times a second for half a minute"]
async fn an_adapter_is_replaced_five_times_a_second_under_32_streams() {
    hot_swap(150, Duration::from_millis(200)).await;
}

/// Connections that say nothing, and others that have said something and keep theirs open.
async fn idle_connections(count: usize) {
    let server = Server::start(config(), |_| Act::Say(vec![5], Duration::ZERO)).await;
    let alone = median(&server, 21).await;
    let mut idle = Vec::new();
    for at in 0..count {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        if at % 2 == 0 {
            let request = b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n";
            socket.write_all(request).await.unwrap();
            socket.read_u8().await.unwrap();
        }
        idle.push(socket);
    }
    let crowded = median(&server, 21).await;
    assert!(
        crowded < alone * 10 + Duration::from_millis(50),
        "{alone:?} alone, {crowded:?} among {count} idle ones"
    );
}

#[tokio::test]
async fn idle_connections_cost_nobody_anything() {
    idle_connections(400).await;
}

#[tokio::test]
#[ignore = "slow: needs more open files than many systems allow at first"]
async fn two_thousand_idle_connections_cost_nobody_anything() {
    idle_connections(2000).await;
}
