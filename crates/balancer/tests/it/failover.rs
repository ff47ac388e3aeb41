//! Backends that fail in every way, and what a client sees of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::balancer::{Balancer, config};
use crate::scripted::{
    Act, Asked, STREAM_HEAD, Scripted, answer, chunk, completion, event, events, stream,
};

/// One that is well until it is asked to generate.
pub(crate) async fn failing(acts: impl Fn() -> Vec<Act> + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |asked: &Asked| match asked.path.as_str() {
        "/health" => vec![Act::Write(answer(200, "", ""))],
        "/v1/models" => vec![Act::Write(answer(404, "", ""))],
        _ => acts(),
    })
    .await
}

pub(crate) async fn good() -> Scripted {
    failing(|| vec![Act::Write(completion("good"))]).await
}

/// Asks until the bad one was asked too, and demands that no client notices.
async fn nobody_notices(acts: impl Fn() -> Vec<Act> + Send + Sync + 'static, what: &str) {
    let (bad, good) = (failing(acts).await, good().await);
    let balancer = Balancer::over(&[&bad, &good]).await;
    let mut asked = 0;
    while bad.count() == 0 {
        assert_eq!(balancer.chat(json!({})).await.said(), "good", "{what}");
        asked += 1;
        assert!(asked < 200, "{what}: nobody asks it");
    }
    balancer.until_at_rest().await;
}

#[tokio::test]
async fn a_plain_answer_cut_after_any_byte_is_asked_for_elsewhere() {
    let whole = completion("bad");
    for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let part = whole[..length].to_vec();
        let what = format!("cut after {length} bytes");
        nobody_notices(move || vec![Act::Write(part.clone()), Act::Close], &what).await;
    }
}

#[tokio::test]
async fn garbage_and_errors_are_asked_for_elsewhere() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no HTTP", b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec()),
        (
            "a wrong length",
            b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{}".to_vec(),
        ),
        (
            "a bad chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n".to_vec(),
        ),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}".to_vec(),
        ),
        (
            "a head without end",
            [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 200_000]].concat(),
        ),
        ("500", answer(500, "", "{}")),
        ("502", answer(502, "", "")),
        ("503", answer(503, "", "{}")),
        ("503 for a while", answer(503, "retry-after: 1\r\n", "{}")),
        ("429", answer(429, "retry-after: 1\r\n", "{}")),
    ];
    for (what, bytes) in cases {
        nobody_notices(move || vec![Act::Write(bytes.clone()), Act::Close], what).await;
    }
}

#[tokio::test]
async fn what_the_client_did_wrong_is_its_own() {
    let bad = failing(|| {
        vec![Act::Write(answer(
            400,
            "x-why: because\r\n",
            "{\"error\": 1}",
        ))]
    })
    .await;
    let balancer = Balancer::over(&[&bad]).await;
    let answer = balancer.chat(json!({})).await;
    assert_eq!(
        (answer.status, answer.header("x-why")),
        (400, Some("because"))
    );
    assert_eq!(bad.count(), 1);
    let status = balancer.status().await;
    assert_eq!(status["backends"][&bad.url()]["state"], "up");
}

#[tokio::test]
async fn a_refusal_of_all_goes_through_with_its_retry_after() {
    let (a, b) = (
        failing(|| vec![Act::Write(answer(429, "retry-after: 7\r\n", "{}"))]).await,
        failing(|| vec![Act::Write(answer(429, "retry-after: 7\r\n", "{}"))]).await,
    );
    let balancer = Balancer::over(&[&a, &b]).await;
    let answer = balancer.chat(json!({})).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("7"))
    );
    assert_eq!((a.count(), b.count()), (1, 1));
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_not() {
    let (bad, good) = (
        failing(|| vec![Act::Sleep(Duration::from_millis(20)), Act::Close]).await,
        good().await,
    );
    let balancer = Balancer::over(&[&bad, &good]).await;
    let mut failures = 0;
    for _ in 0..20 {
        let answer = balancer.post("/v1/files", json!({})).await;
        if answer.status == 502 {
            failures += 1;
        }
    }
    assert!(failures >= 1 && failures == bad.count(), "{failures}");
    assert_eq!(bad.count() + good.count(), 20);
}

#[tokio::test]
async fn a_stream_is_cut_after_any_byte_and_never_ends_as_if_it_were_whole() {
    let whole = stream(&["one ", "two ", "three"]);
    let (head, first) = (STREAM_HEAD.len(), events(&["one "])[..2].concat());
    for length in (head..whole.len()).step_by(9) {
        let part = whole[..length].to_vec();
        let bad = failing(move || vec![Act::Write(part.clone()), Act::Close]).await;
        let balancer = Balancer::over(&[&bad]).await;
        let answer = balancer.chat(json!({"stream": true})).await;
        if answer.status == 200 && answer.is_done() {
            // The last event came; only the end of the message was cut.
            assert!(length > whole.len() - 8, "{length}");
            continue;
        }
        if answer.status == 200 {
            assert!(answer.is_flagged(), "cut after {length}: {}", answer.text());
            assert!(answer.text().starts_with(&first), "{}", answer.text());
        } else {
            assert!([502, 503].contains(&answer.status), "{}", answer.status);
            assert!(length < head + 16 + first.len() * 2, "{length}");
        }
        balancer.until_at_rest().await;
    }
}

#[tokio::test]
async fn a_stream_without_content_goes_elsewhere() {
    let beginning = [
        STREAM_HEAD.as_bytes().to_vec(),
        chunk(&event(r#"{"role":"assistant","content":""}"#)),
        chunk(": ping\n\n"),
    ]
    .concat();
    let html = [STREAM_HEAD.as_bytes().to_vec(), chunk("<html>\n\n")].concat();
    for begun in [beginning, html] {
        let bad = failing(move || vec![Act::Write(begun.clone()), Act::Close]).await;
        let good = failing(|| vec![Act::Write(stream(&["a", "b"]))]).await;
        let balancer = Balancer::over(&[&bad, &good]).await;
        while bad.count() == 0 {
            let answer = balancer.chat(json!({"stream": true})).await;
            assert!(answer.is_done());
            assert_eq!(answer.events(), events(&["a", "b"]));
        }
    }
}

#[tokio::test]
async fn an_end_without_done_and_a_stall_are_flagged() {
    let open = || {
        [
            STREAM_HEAD.as_bytes().to_vec(),
            chunk(&event("{\"content\":\"a\"}")),
        ]
        .concat()
    };
    let ended = [open(), b"0\r\n\r\n".to_vec()].concat();
    let bad = failing(move || vec![Act::Write(ended.clone())]).await;
    let balancer = Balancer::over(&[&bad]).await;
    assert!(balancer.chat(json!({"stream": true})).await.is_flagged());

    let stalled = failing(move || vec![Act::Write(open()), Act::Hang]).await;
    let mut config = config(&[stalled.url()]);
    config.limits.stall_timeout = Duration::from_millis(300);
    let balancer = Balancer::start(config).await;
    balancer.until_up(1).await;
    let answer = balancer.chat(json!({"stream": true})).await;
    assert!(answer.is_flagged(), "{}", answer.text());
    balancer.until_at_rest().await;
}

#[tokio::test]
async fn a_first_event_that_is_an_error_is_the_answer() {
    let said = "data: {\"error\":{\"message\":\"the prompt is too long\"}}\n\n";
    let bytes = [
        STREAM_HEAD.as_bytes().to_vec(),
        chunk(&event(r#"{"role":"assistant","content":""}"#)),
        chunk(said),
        chunk("data: [DONE]\n\n"),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    let same = move || vec![Act::Write(bytes.clone())];
    let (a, b) = (failing(same.clone()).await, failing(same).await);
    let balancer = Balancer::over(&[&a, &b]).await;
    let answer = balancer.chat(json!({"stream": true})).await;
    assert!(answer.is_flagged(), "{}", answer.text());
    assert_eq!(answer.events().last().map(String::as_str), Some(said));
    assert_eq!(a.count() + b.count(), 1, "nobody is asked again");
    balancer.until_at_rest().await;
    balancer.until_up(2).await;
}

#[tokio::test]
async fn a_stream_that_stands_still_before_its_first_content_goes_elsewhere() {
    let begun = [
        STREAM_HEAD.as_bytes().to_vec(),
        chunk(&event(r#"{"role":"assistant","content":""}"#)),
    ]
    .concat();
    let slow = failing(move || vec![Act::Write(begun.clone()), Act::Hang]).await;
    let good = failing(|| vec![Act::Write(stream(&["a"]))]).await;
    let mut config = config(&[slow.url(), good.url()]);
    config.limits.stall_timeout = Duration::from_millis(500);
    let balancer = Balancer::start(config).await;
    balancer.until_up(2).await;
    while slow.count() == 0 {
        let start = Instant::now();
        assert!(balancer.chat(json!({"stream": true})).await.is_done());
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn an_error_in_a_stream_is_passed_on_without_the_done_that_follows() {
    let bytes = [
        STREAM_HEAD.as_bytes().to_vec(),
        chunk(&event("{\"content\":\"a\"}")),
        chunk("data: {\"error\":{\"message\":\"mine\"}}\n\ndata: [DONE]\n\n"),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    let bad = failing(move || vec![Act::Write(bytes.clone())]).await;
    let balancer = Balancer::over(&[&bad]).await;
    let answer = balancer.chat(json!({"stream": true})).await;
    assert!(
        answer.is_flagged() && answer.text().contains("mine"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn one_that_hangs_is_found_and_its_requests_go_elsewhere() {
    let hung = Arc::new(AtomicUsize::new(0));
    let state = hung.clone();
    let bad = Scripted::start(move |asked: &Asked| {
        let hangs = state.load(Ordering::SeqCst) == 1;
        match asked.path.as_str() {
            _ if hangs => vec![Act::Hang],
            "/health" => vec![Act::Write(answer(200, "", ""))],
            "/v1/models" => vec![Act::Write(answer(404, "", ""))],
            _ => vec![Act::Hang],
        }
    })
    .await;
    let good = good().await;
    let balancer = Balancer::over(&[&bad, &good]).await;
    let start = Instant::now();
    let body = json!({"model": "m"});
    let all = futures(&balancer, &body, 8);
    let freeze = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        hung.store(1, Ordering::SeqCst);
    };
    let (answers, ()) = tokio::join!(all, freeze);
    assert!(bad.count() >= 1);
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    balancer.until_state(&bad, "down").await;
    let status = balancer.status().await;
    assert_eq!(status["backends"][&bad.url()]["status"], "timeout");
    hung.store(0, Ordering::SeqCst);
    balancer.until_state(&bad, "half-open").await;
}

async fn futures(balancer: &Balancer, body: &serde_json::Value, count: usize) -> Vec<u16> {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (address, body) = (balancer.address, body.clone());
        all.spawn(async move {
            crate::client::send(address, "POST", "/v1/completions", "", &body)
                .await
                .status
        });
    }
    all.join_all().await
}

#[tokio::test]
async fn one_that_is_gone_comes_back_with_its_share() {
    let (a, b) = (good().await, good().await);
    let balancer = Balancer::over(&[&a, &b]).await;
    let (address, url) = (a.address, a.url());
    drop(a);
    for _ in 0..20 {
        assert_eq!(balancer.chat(json!({})).await.said(), "good");
    }
    balancer
        .until("gone", |status| {
            status["backends"][&url]["status"] == "connection_refused"
        })
        .await;
    let a = Scripted::at(address, |_| vec![Act::Write(completion("back"))]).await;
    balancer.until_state(&a, "half-open").await;
    let start = Instant::now();
    while a.count() < 5 {
        balancer.chat(json!({})).await;
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    balancer.until_state(&a, "up").await;
}

#[tokio::test]
async fn one_that_is_back_gets_more_than_one_long_request_before_the_first_is_answered() {
    let a = good().await;
    let (address, url) = (a.address, a.url());
    let balancer = Balancer::over(&[&a]).await;
    drop(a);
    balancer
        .until("gone", |status| status["backends"][&url]["state"] == "down")
        .await;
    let late = |asked: &Asked| match asked.path.as_str() {
        "/health" => vec![Act::Write(answer(200, "", ""))],
        "/v1/models" => vec![Act::Write(answer(404, "", ""))],
        _ => vec![
            Act::Sleep(Duration::from_secs(3)),
            Act::Write(completion("late")),
        ],
    };
    let a = Scripted::at(address, late).await;
    balancer.until_state(&a, "half-open").await;
    let start = Instant::now();
    let answers = futures(&balancer, &json!({"model": "m"}), 6).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn who_waits_through_a_pause_goes_on_when_it_is_over() {
    let asked = AtomicUsize::new(0);
    let a = failing(move || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => vec![Act::Write(answer(429, "retry-after: 1\r\n", "{}"))],
        _ => vec![Act::Write(completion("good"))],
    })
    .await;
    let balancer = Balancer::over(&[&a]).await;
    assert_eq!(balancer.chat(json!({})).await.status, 429);
    let start = Instant::now();
    assert_eq!(balancer.chat(json!({})).await.said(), "good");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn when_all_are_gone_requests_wait_for_one_and_not_for_ever() {
    let a = good().await;
    let address = a.address;
    let mut config = config(&[a.url()]);
    config.limits.queue_timeout = Duration::from_millis(700);
    let balancer = Balancer::start(config).await;
    balancer.until_up(1).await;
    drop(a);
    let answer = balancer.chat(json!({})).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(answer.json()["error"]["code"], 503);
    let back = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Scripted::at(address, |_| vec![Act::Write(completion("back"))]).await
    };
    let (answer, _a) = tokio::join!(balancer.chat(json!({})), back);
    assert_eq!(answer.said(), "back");
}
