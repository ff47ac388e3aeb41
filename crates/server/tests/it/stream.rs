//! Server-sent events.

use serde_json::{Value, json};
use xgraft_server::engine::FinishReason;

use crate::chat::{CALL, tools};
use crate::double::Act;
use crate::server::{Server, config, ids, steady};

fn text(chunks: &[Value], index: u64, field: &str) -> String {
    let choices = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap());
    let mine = choices.filter(|choice| choice["index"] == index);
    mine.filter_map(|choice| {
        choice["delta"]
            .get(field)
            .or(choice.get(field))?
            .as_str()
            .map(ToOwned::to_owned)
    })
    .collect()
}

#[tokio::test]
async fn a_chat_s_events_byte_for_byte() {
    let server = Server::saying("<think>a</think>b").await;
    let answer = server
        .chat(json!({"stream": true, "stream_options": {"include_usage": true}}))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    let head = r#"data: {"id":"?","object":"chat.completion.chunk","created":?,"model":"tiny","choices":["#;
    let prompt = server.seen().prompt.len();
    let generated = ids("<think>a</think>b").len() + 1;
    let usage = format!(
        r#""usage":{{"prompt_tokens":{prompt},"total_tokens":{},"completion_tokens":{generated},"prompt_tokens_details":{{"cached_tokens":2}}}}"#,
        prompt + generated
    );
    let expected = [
        format!(
            r#"{head}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]}}"#
        ),
        format!(
            r#"{head}{{"index":0,"delta":{{"reasoning":"a","reasoning_content":"a"}},"logprobs":null,"finish_reason":null}}]}}"#
        ),
        format!(
            r#"{head}{{"index":0,"delta":{{"content":"b"}},"logprobs":null,"finish_reason":null}}]}}"#
        ),
        format!(
            r#"{head}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop","stop_reason":null}}]}}"#
        ),
        format!("{head}],{usage}}}"),
        "data: [DONE]".to_owned(),
    ];
    assert_eq!(steady(&answer.text()), expected.join("\n\n") + "\n\n");
}

#[tokio::test]
async fn a_completion_s_events_byte_for_byte() {
    let server = Server::saying("ab").await;
    let answer = server
        .complete(json!({"stream": true, "max_tokens": 2, "prompt": [5]}))
        .await;
    let head = r#"data: {"id":"?","object":"text_completion","created":?,"model":"tiny","choices":[{"index":0,"#;
    let expected = [
        format!(r#"{head}"text":"a","logprobs":null,"finish_reason":null,"stop_reason":null}}]}}"#),
        format!(r#"{head}"text":"b","logprobs":null,"finish_reason":null,"stop_reason":null}}]}}"#),
        format!(
            r#"{head}"text":"","logprobs":null,"finish_reason":"length","stop_reason":null}}]}}"#
        ),
        "data: [DONE]".to_owned(),
    ];
    assert_eq!(steady(&answer.text()), expected.join("\n\n") + "\n\n");
}

#[tokio::test]
async fn usage_comes_with_every_event_if_that_is_asked_for() {
    let server = Server::saying("abc").await;
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    let chunks = server
        .complete(json!({"stream": true, "stream_options": options}))
        .await
        .chunks();
    let counts: Vec<_> = chunks
        .iter()
        .map(|chunk| chunk["usage"]["completion_tokens"].as_u64().unwrap())
        .collect();
    assert!(counts.is_sorted() && counts[0] == 1, "{counts:?}");
    assert_eq!(chunks.last().unwrap()["choices"], json!([]));
    assert_eq!(
        server
            .complete(json!({"stream_options": {}}))
            .await
            .error("param"),
        "stream_options"
    );
}

#[tokio::test]
async fn pieces_put_together_are_the_whole() {
    let said = format!("<think>\nI check µ.\n</think>\n\nI look: END{CALL}\n{CALL}");
    let server = Server::saying(&said).await;
    for more in [
        json!({}),
        json!({"n": 3}),
        json!({"stop": ["look: EN"]}),
        json!({"tools": tools()}),
    ] {
        let whole = server.chat(more.clone()).await.json();
        let chunks = server
            .chat(crate::server::with(more.clone(), json!({"stream": true})))
            .await
            .chunks();
        for choice in whole["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap();
            let message = &choice["message"];
            assert_eq!(
                text(&chunks, index, "content"),
                message["content"].as_str().unwrap_or_default(),
                "{more}"
            );
            assert_eq!(
                text(&chunks, index, "reasoning"),
                message["reasoning"].as_str().unwrap_or_default()
            );
            assert_eq!(
                text(&chunks, index, "reasoning_content"),
                message["reasoning_content"].as_str().unwrap_or_default()
            );
            let ends: Vec<_> = chunks
                .iter()
                .flat_map(|chunk| chunk["choices"].as_array().unwrap())
                .filter(|piece| piece["index"] == index && !piece["finish_reason"].is_null())
                .map(|piece| (&piece["finish_reason"], &piece["stop_reason"]))
                .collect();
            assert_eq!(ends, [(&choice["finish_reason"], &choice["stop_reason"])]);
        }
    }
}

#[tokio::test]
async fn calls_come_in_pieces_that_name_their_call() {
    let server = Server::saying(&format!("{CALL}\n{CALL}")).await;
    let chunks = server
        .chat(json!({"stream": true, "tools": tools()}))
        .await
        .chunks();
    let mut names = Vec::new();
    let mut arguments = vec![String::new(); 2];
    for chunk in &chunks {
        for call in chunk["choices"][0]["delta"]["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let index = call["index"].as_u64().unwrap() as usize;
            if let Some(name) = call["function"]["name"].as_str() {
                assert!(call["id"].as_str().unwrap().starts_with("chatcmpl-tool-"));
                names.push((index, name.to_owned()));
            }
            arguments[index].push_str(call["function"]["arguments"].as_str().unwrap());
        }
    }
    assert_eq!(names, [(0, "look".to_owned()), (1, "look".to_owned())]);
    assert_eq!(arguments, ["{\"gene\": \"BRC1\"}"; 2]);
    let pieces = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["delta"].get("tool_calls").is_some())
        .count();
    assert!(pieces > 4, "arguments come while they are generated");
    assert_eq!(
        chunks.last().unwrap()["choices"][0]["finish_reason"],
        "tool_calls"
    );
}

#[tokio::test]
async fn token_ids_and_logprobs_come_with_the_token_even_if_it_has_no_text_yet() {
    let server = Server::saying("x END").await;
    let all: Vec<u64> = ids("x END")
        .into_iter()
        .map(u64::from)
        .chain([1013])
        .collect();
    let more =
        json!({"stream": true, "return_token_ids": true, "logprobs": true, "stop": ["END of it"]});
    let chunks = server.chat(more).await.chunks();
    assert_eq!(chunks[0]["prompt_token_ids"], json!(server.seen().prompt));
    let sent: Vec<u64> = chunks[1..]
        .iter()
        .flat_map(|chunk| {
            chunk["choices"][0]["token_ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap())
        })
        .collect();
    assert_eq!(sent, all);
    let logprobs = chunks[1..]
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(logprobs.map(Vec::len).sum::<usize>(), all.len());
}

#[tokio::test]
async fn a_failure_in_a_stream_is_an_error_and_no_clean_end() {
    for act in [
        Act::End(ids("ab"), FinishReason::Error("the device is gone".into())),
        Act::Die(ids("ab")),
    ] {
        let server = Server::start(config(), move |_| act.clone()).await;
        for path in ["/v1/completions", "/v1/chat/completions"] {
            let body = json!({"prompt": "Pick", "stream": true});
            let chat = json!({"messages": [{"role": "user", "content": "a"}], "stream": true});
            let answer = server
                .post(path, if path.contains("chat") { chat } else { body })
                .await;
            assert_eq!(answer.status, 200);
            let events = answer.events();
            let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
            assert_eq!(last["error"]["code"], 500, "{events:?}");
            assert!(!answer.text().contains("[DONE]"));
            assert!(
                events[..events.len() - 1]
                    .iter()
                    .all(|event| event.contains("\"finish_reason\":null"))
            );
        }
    }
}

#[tokio::test]
async fn echo_is_the_first_piece() {
    let server = Server::saying(" it").await;
    let chunks = server
        .complete(json!({"stream": true, "echo": true, "logprobs": 0}))
        .await
        .chunks();
    assert_eq!(text(&chunks, 0, "text"), "Pick it");
    assert!(
        chunks[0]["choices"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("Pick")
    );
    let tokens = chunks[0]["choices"][0]["logprobs"]["tokens"]
        .as_array()
        .unwrap();
    assert_eq!(tokens.len(), ids("Pick").len() + 1);
}
