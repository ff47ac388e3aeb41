//! A stream of one of our servers that goes on at another.

use serde_json::{Value, json};

use crate::balancer::Balancer;
use crate::scripted::{Act, Asked, STREAM_HEAD, Scripted, answer, chunk, models};

/// The pieces of what is said, and the ids that each came with; empty pieces hold half a character back.
const PIECES: [(&str, &str); 6] = [
    ("Gr", "11"),
    ("", "12"),
    ("ü", "13"),
    ("ße ", "14,15"),
    ("an ", "16"),
    ("alle", "17"),
];

/// One of ours, of which every stream breaks after so many events of text.
async fn ours(breaks_after: usize, created: u32) -> Scripted {
    Scripted::start(move |asked: &Asked| match asked.path.as_str() {
        "/v1/models" => vec![Act::Write(models("xgraft", &["m"]))],
        "/v1/chat/completions" => speak(&asked.json(), asked, breaks_after, created),
        _ => vec![Act::Write(answer(200, "", ""))],
    })
    .await
}

fn speak(body: &Value, asked: &Asked, breaks_after: usize, created: u32) -> Vec<Act> {
    assert!(body["seed"].is_u64(), "{body}");
    let id = format!("chatcmpl-{}", asked.header("x-request-id").unwrap());
    let given = body["continue_from"]["token_ids"].as_array();
    let given: Vec<String> = given
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    let shows = body["return_token_ids"] == true;
    // What had ended ends again.
    let said = given.join(",");
    let said = said.strip_suffix(",2").unwrap_or(&said);
    let skip = (0..=PIECES.len()).find(|count| {
        let ids: Vec<_> = PIECES[..*count].iter().map(|(_, ids)| *ids).collect();
        ids.join(",") == said
    });
    let skip = skip.unwrap_or_else(|| panic!("no prefix: {said}"));
    let head = format!(
        "\"id\":\"{id}\",\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":\"m\""
    );
    let prompt = if shows {
        ",\"prompt_token_ids\":[1,2]"
    } else {
        ""
    };
    let mut all = vec![format!(
        "data: {{{head},\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"logprobs\":null,\"finish_reason\":null}}]{prompt}}}\n\n"
    )];
    for (text, ids) in &PIECES[skip..] {
        if text.is_empty() && !shows {
            continue;
        }
        let delta = if text.is_empty() {
            json!({})
        } else {
            json!({"content": text})
        };
        let ids = if shows {
            format!(",\"token_ids\":[{ids}]")
        } else {
            String::new()
        };
        all.push(format!("data: {{{head},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":null{ids}}}]}}\n\n"));
    }
    let ids = if shows { ",\"token_ids\":[2]" } else { "" };
    all.push(format!("data: {{{head},\"choices\":[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null{ids}}}]}}\n\n"));
    all.push("data: [DONE]\n\n".to_owned());
    let mut acts = vec![Act::Write(STREAM_HEAD.as_bytes().to_vec())];
    for event in all.iter().take(breaks_after.saturating_add(1)) {
        acts.push(Act::Write(chunk(event)));
    }
    acts.push(if breaks_after < all.len() {
        Act::Close
    } else {
        Act::Write(b"0\r\n\r\n".to_vec())
    });
    acts
}

/// What a client sees without a balancer.
async fn direct(backend: &Scripted, body: Value) -> String {
    let headers = "x-request-id: r1\r\n";
    let mut body = crate::balancer::chat(body);
    body["seed"] = json!(5);
    let answer = crate::client::send(
        backend.address,
        "POST",
        "/v1/chat/completions",
        headers,
        &body,
    );
    answer.await.text()
}

async fn balanced(balancer: &Balancer, body: Value) -> crate::client::Answer {
    let headers = "x-request-id: r1\r\n";
    let body = crate::balancer::chat(body);
    crate::client::send(
        balancer.address,
        "POST",
        "/v1/chat/completions",
        headers,
        &body,
    )
    .await
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_is_the_unbroken_one_byte_for_byte() {
    for asks_for_ids in [false, true] {
        let body = if asks_for_ids {
            json!({"stream": true, "return_token_ids": true})
        } else {
            json!({"stream": true})
        };
        for cut in 2..9 {
            let (bad, good) = (ours(cut, 1700).await, ours(usize::MAX, 1700).await);
            let expected = direct(&good, body.clone()).await;
            assert!(expected.contains("ü") && expected.ends_with("[DONE]\n\n"));
            let balancer = Balancer::over(&[&bad, &good]).await;
            while bad.count() == 0 {
                let answer = balanced(&balancer, body.clone()).await;
                assert_eq!(answer.text(), expected, "cut after {cut}");
                assert!(answer.complete);
            }
            let status = balancer.status().await;
            assert_eq!(status["streams_flagged"], 0, "{status}");
            balancer.until_at_rest().await;
        }
    }
}

#[tokio::test]
async fn a_second_server_in_another_second_says_the_same_time() {
    let (bad, good) = (ours(4, 1700).await, ours(usize::MAX, 1999).await);
    let balancer = Balancer::over(&[&bad, &good]).await;
    while bad.count() == 0 {
        let answer = balanced(&balancer, json!({"stream": true})).await;
        let times = answer.text().matches("\"created\":1700,").count();
        assert!(
            times == 0 || !answer.text().contains("1999"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_stream_breaks_more_than_once_and_still_comes_to_its_end() {
    let (a, b, c) = (ours(2, 1).await, ours(2, 1).await, ours(2, 1).await);
    let balancer = Balancer::over(&[&a, &b, &c]).await;
    let answer = balanced(&balancer, json!({"stream": true})).await;
    let said: String = PIECES.iter().map(|(text, _)| *text).collect();
    let heard: String = answer
        .events()
        .iter()
        .filter_map(|event| {
            let event: Value = serde_json::from_str(event.strip_prefix("data: ")?).ok()?;
            Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())
        })
        .collect();
    assert!(said.starts_with(&heard) && heard.len() > "Gr".len());
    assert!(answer.is_done() || answer.is_flagged());
    let status = balancer.status().await;
    assert!(status["streams_resumed"].as_u64() >= Some(2), "{status}");
}

#[tokio::test]
async fn what_cannot_go_on_is_flagged() {
    let (bad, good) = (ours(3, 1).await, ours(usize::MAX, 1).await);
    let balancer = Balancer::over(&[&bad, &good]).await;
    while bad.count() == 0 {
        let answer = balanced(&balancer, json!({"stream": true, "n": 2, "seed": 1})).await;
        assert!(answer.is_done() || answer.is_flagged() && bad.count() == 1);
    }
    let status = balancer.status().await;
    assert_eq!(status["streams_flagged"], 1);
}

#[tokio::test]
async fn nobody_else_is_asked_to_go_on_who_cannot() {
    let bad = ours(3, 1).await;
    let other = Scripted::start(|asked: &Asked| match asked.path.as_str() {
        "/v1/models" => vec![Act::Write(models("vllm", &["m"]))],
        _ => vec![Act::Write(answer(200, "", ""))],
    })
    .await;
    let balancer = Balancer::over(&[&bad, &other]).await;
    let before = std::time::Instant::now();
    while bad.count() == 0 {
        let answer = balanced(&balancer, json!({"stream": true})).await;
        if bad.count() > 0 {
            assert!(answer.is_flagged() || answer.is_done(), "{}", answer.text());
        }
    }
    assert!(before.elapsed() < std::time::Duration::from_secs(15));
    let asked = other.asked.lock().unwrap();
    assert!(
        asked
            .iter()
            .all(|asked| asked.json().get("continue_from").is_none())
    );
}
