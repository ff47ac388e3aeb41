//! Backends that die, freeze, drain and come back all the time under a crowd of clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use xgraft_balancer::ApiKey;

use crate::balancer::{Balancer, chat, config};
use crate::client;
use crate::scripted::{Act, Asked, STREAM_HEAD, Scripted, answer, chunk, completion, events};

const WORDS: [&str; 8] = ["a ", "b ", "c ", "d ", "e ", "f ", "g ", "h"];

/// What the crowd saw.
#[derive(Debug, Default)]
struct Tally {
    plain: AtomicUsize,
    plain_failed: AtomicUsize,
    whole: AtomicUsize,
    flagged: AtomicUsize,
    refused: AtomicUsize,
    neither: AtomicUsize,
}

/// Generates for some tens of milliseconds, unless it is frozen.
async fn backend(address: SocketAddr, frozen: Arc<AtomicBool>) -> Scripted {
    Scripted::at(address, move |asked: &Asked| {
        if frozen.load(Ordering::SeqCst) {
            return vec![Act::Hang];
        }
        match asked.path.as_str() {
            "/health" => vec![Act::Write(answer(200, "", ""))],
            "/v1/models" => vec![Act::Write(answer(404, "", ""))],
            _ if asked.json()["stream"] == true => {
                let mut acts = vec![Act::Write(STREAM_HEAD.as_bytes().to_vec())];
                for event in events(&WORDS) {
                    acts.push(Act::Write(chunk(&event)));
                    acts.push(Act::Sleep(Duration::from_millis(5)));
                }
                acts.push(Act::Write(b"0\r\n\r\n".to_vec()));
                acts
            }
            _ => vec![
                Act::Sleep(Duration::from_millis(30)),
                Act::Write(completion("plain")),
            ],
        }
    })
    .await
}

async fn client(address: SocketAddr, tally: Arc<Tally>, over: Arc<AtomicBool>) {
    let whole: String = events(&WORDS).concat();
    while !over.load(Ordering::SeqCst) {
        let post = async |body| {
            client::send(address, "POST", "/v1/chat/completions", "", &chat(body)).await
        };
        let plain = post(json!({})).await;
        tally.plain.fetch_add(1, Ordering::SeqCst);
        if plain.status != 200 || plain.said() != "plain" {
            tally.plain_failed.fetch_add(1, Ordering::SeqCst);
        }
        let stream = post(json!({"stream": true})).await;
        let kind = if stream.status != 200 {
            &tally.refused
        } else if stream.is_done() && stream.text() == whole {
            &tally.whole
        } else if stream.is_flagged() {
            &tally.flagged
        } else {
            &tally.neither
        };
        kind.fetch_add(1, Ordering::SeqCst);
    }
}

async fn chaos(clients: usize, time: Duration, turn: Duration) -> Arc<Tally> {
    let frozen: Vec<Arc<AtomicBool>> = (0..4).map(|_| Arc::default()).collect();
    let mut alive = Vec::new();
    for frozen in &frozen {
        let anywhere = "127.0.0.1:0".parse().unwrap();
        alive.push(Some(backend(anywhere, frozen.clone()).await));
    }
    let places: Vec<_> = alive.iter().flatten().map(|one| one.address).collect();
    let urls: Vec<String> = alive.iter().flatten().map(Scripted::url).collect();
    let mut config = config(&urls);
    config.admin_keys = vec![ApiKey::new("admin").unwrap()];
    config.limits.queue_timeout = Duration::from_secs(20);
    config.workers = 2;
    let balancer = Balancer::start(config).await;
    balancer.until_up(4).await;
    let (tally, over) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let mut crowd = JoinSet::new();
    for _ in 0..clients {
        crowd.spawn(client(balancer.address, tally.clone(), over.clone()));
    }
    let start = Instant::now();
    let mut round = 0;
    while start.elapsed() < time {
        tokio::time::sleep(turn / 2).await;
        // One, then three of four; the fourth stays as it is.
        let hit: Vec<usize> = (0..if round % 2 == 0 { 1 } else { 3 })
            .map(|k| (round + k) % 4)
            .collect();
        let admin = async |path, at: usize| {
            let headers = "authorization: Bearer admin\r\n";
            let body = json!({"url": urls[at]});
            client::send(balancer.address, "POST", path, headers, &body).await
        };
        for &at in &hit {
            match (round / 2) % 3 {
                0 => alive[at] = None,
                1 => frozen[at].store(true, Ordering::SeqCst),
                _ => assert_eq!(admin("/admin/drain", at).await.status, 200),
            }
        }
        tokio::time::sleep(turn / 2).await;
        for &at in &hit {
            frozen[at].store(false, Ordering::SeqCst);
            assert_eq!(admin("/admin/undrain", at).await.status, 200);
            if alive[at].is_none() {
                alive[at] = Some(backend(places[at], frozen[at].clone()).await);
            }
        }
        round += 1;
    }
    over.store(true, Ordering::SeqCst);
    crowd.join_all().await;
    balancer.until_at_rest().await;
    let up = |status: &serde_json::Value| {
        let states = crate::balancer::backends(status).map(|b| b["state"].clone());
        states
            .into_iter()
            .all(|state| state == "up" || state == "half-open")
    };
    balancer.until("all back", up).await;
    balancer.stop().await;
    tally
}

fn check(tally: &Tally) {
    println!("{tally:?}");
    let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    assert!(
        of(&tally.plain) > 100 && of(&tally.whole) > 100,
        "{tally:?}"
    );
    assert_eq!(of(&tally.plain_failed), 0, "{tally:?}");
    assert_eq!(
        (of(&tally.refused), of(&tally.neither)),
        (0, 0),
        "{tally:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_plain_fails_and_every_cut_stream_says_so() {
    check(&*chaos(16, Duration::from_secs(20), Duration::from_secs(3)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: ten minutes of chaos"]
async fn nothing_plain_fails_in_ten_minutes_of_chaos() {
    check(&*chaos(64, Duration::from_secs(600), Duration::from_secs(20)).await);
}
