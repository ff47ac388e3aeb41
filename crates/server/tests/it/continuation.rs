//! A generation that goes on where another server stopped.

use serde_json::{Value, json};

use crate::chat::{CALL, tools};
use crate::server::{Server, ids, with};

/// Everything that a client sees of a stream, in order: ids with what came with them.
fn seen(chunks: &[Value]) -> Vec<(Vec<u64>, Value, Value)> {
    let choices = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap());
    let with_ids = choices.filter(|choice| choice.get("token_ids").is_some());
    with_ids
        .map(|choice| {
            let ids = choice["token_ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap())
                .collect();
            let mut said = choice["delta"].clone();
            for call in said["tool_calls"].as_array_mut().into_iter().flatten() {
                call.as_object_mut().unwrap().remove("id");
            }
            (ids, said, choice["finish_reason"].clone())
        })
        .collect()
}

#[tokio::test]
async fn a_stream_cut_at_any_token_goes_on_with_exactly_the_rest() {
    let said = format!("<think>\nwhy µ\n</think>\n\nSTO I look.\n{CALL}");
    let server = Server::saying(&said).await;
    let base = json!({"stream": true, "return_token_ids": true, "seed": 3, "tools": tools(), "stop": ["STOP"]});
    let whole = seen(&server.chat(base.clone()).await.chunks());
    for cut in 1..whole.len() {
        let given: Vec<u64> = whole[..cut]
            .iter()
            .flat_map(|(ids, ..)| ids.clone())
            .collect();
        let more = with(base.clone(), json!({"continue_from": {"token_ids": given}}));
        let rest = seen(&server.chat(more).await.chunks());
        assert_eq!(rest, whole[cut..], "after {cut} tokens");
        if given.last() != Some(&1013) {
            assert_eq!(server.seen().generated.len(), given.len());
            assert_eq!(server.seen().sampling.seed, 3);
        }
    }
}

#[tokio::test]
async fn what_has_ended_already_ends_without_the_engine() {
    let server = Server::saying("abc").await;
    let given = ids("abc");
    let body = json!({"seed": 1, "max_tokens": given.len(), "continue_from": {"token_ids": given}, "stop": ["cd"]});
    let answer = server.complete(body).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["text"], "c", "what was held back");
    assert_eq!(answer["usage"]["completion_tokens"], given.len());
    let stopped = json!({"seed": 1, "continue_from": {"token_ids": given}, "stop": ["bc"]});
    let answer = server.complete(stopped).await.json();
    assert_eq!(
        (
            &answer["choices"][0]["stop_reason"],
            &answer["choices"][0]["text"]
        ),
        (&json!("bc"), &json!(""))
    );
    assert!(server.engine.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_choice_and_the_seed_are_the_ones_that_are_named() {
    let server = Server::saying("abc").await;
    let given = json!({"token_ids": [5], "choice": 2});
    let answer = server
        .complete(json!({"seed": 9, "n": 3, "continue_from": given}))
        .await;
    assert_eq!(answer.json()["choices"].as_array().unwrap().len(), 1);
    let seen = server.seen();
    assert_eq!(
        (seen.choice, seen.sampling.seed, seen.generated),
        (2, 9, vec![5])
    );
    let unseeded = json!({"continue_from": given, "n": 3});
    assert_eq!(
        server.complete(unseeded.clone()).await.error("param"),
        "continue_from"
    );
    let greedy = with(unseeded, json!({"temperature": 0}));
    assert_eq!(server.complete(greedy).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_the_beginning_of_the_answer_is_refused_by_name() {
    let server = Server::saying("abc").await;
    let wrong = [
        (
            "choice",
            json!({"continue_from": {"token_ids": [5], "choice": 1}}),
        ),
        (
            "choice",
            json!({"continue_from": {"token_ids": [5], "choice": 2}, "n": 2}),
        ),
        (
            "choice",
            json!({"continue_from": {"token_ids": [5], "choice": -1}}),
        ),
        ("token_ids", json!({"continue_from": {"token_ids": [1024]}})),
        (
            "token_ids",
            json!({"continue_from": {"token_ids": [5, -1]}}),
        ),
        (
            "token_ids",
            json!({"continue_from": {"token_ids": [5, 1.5]}}),
        ),
        ("token_ids", json!({"continue_from": {}})),
        (
            "token_ids",
            json!({"continue_from": {"token_ids": [5, 6, 7]}, "max_tokens": 2}),
        ),
        (
            "token_ids",
            json!({"continue_from": {"token_ids": [5, 1013, 6]}}),
        ),
        (
            "token_ids",
            json!({"continue_from": {"token_ids": [5, 7, 6]}, "stop_token_ids": [7]}),
        ),
        (
            "token_ids",
            json!({"continue_from": {"token_ids": ids("abcd")}, "stop": ["bc"]}),
        ),
        (
            "step",
            json!({"continue_from": {"token_ids": [5], "step": 2}}),
        ),
    ];
    for (field, body) in wrong {
        let answer = server
            .complete(with(body.clone(), json!({"seed": 1})))
            .await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let param = format!("continue_from.{field}");
        assert_eq!(answer.error("param"), param, "{}", answer.text());
    }
    for body in [
        json!({"continue_from": {"token_ids": [5]}, "seed": 1, "prompt": ["a", "b"]}),
        json!({"continue_from": {"token_ids": [5]}, "seed": 1, "echo": true}),
    ] {
        assert_eq!(server.complete(body.clone()).await.status, 400, "{body}");
    }
    let ended = json!({"continue_from": {"token_ids": [5, 1013]}, "seed": 1});
    let answer = server.complete(ended).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_format_goes_on_where_it_was() {
    let server = Server::start(crate::server::config(), |_| {
        crate::double::Act::Obey(vec![])
    })
    .await;
    let given = ids("{\"a\": ");
    let schema = json!({"type": "object", "properties": {"a": {"const": 7}}, "required": ["a"], "additionalProperties": false});
    let body = json!({"structured_outputs": {"json": schema}, "seed": 1, "continue_from": {"token_ids": given}});
    let answer = server.complete(body.clone()).await.json();
    assert_eq!(answer["choices"][0]["text"], "7}", "{answer}");
    let other = with(body, json!({"continue_from": {"token_ids": ids("no")}}));
    assert_eq!(
        server.complete(other).await.error("param"),
        "continue_from.token_ids"
    );
}
