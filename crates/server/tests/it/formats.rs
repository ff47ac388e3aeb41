//! Structured outputs end to end: a model that would say anything says what it must.

use serde_json::{Value, json};

use crate::double::Act;
use crate::server::{Server, config, ids};

async fn obeying(wish: &str) -> Server {
    let wish = ids(wish);
    Server::start(config(), move |_| Act::Obey(wish.clone())).await
}

#[tokio::test]
async fn a_json_schema_is_kept() {
    let server = obeying("Sure! Here it is").await;
    let schema = json!({
        "type": "object",
        "properties": {"answer": {"enum": ["A", "B"]}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"],
        "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}});
    let answer = server.chat(json!({"response_format": format})).await.json();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let value: Value = serde_json::from_str(content).unwrap();
    assert!(["A", "B"].contains(&value["answer"].as_str().unwrap()) && value["sure"].is_boolean());
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn reasoning_comes_before_the_form() {
    let server = obeying("<think>I check.</think>\n\nno no").await;
    let answer = server
        .chat(json!({"structured_outputs": {"choice": ["yes", "no"]}}))
        .await
        .json();
    let message = &answer["choices"][0]["message"];
    assert_eq!(
        (message["reasoning"].as_str(), message["content"].as_str()),
        (Some("I check."), Some("\n\nno"))
    );
    let kwargs = json!({"enable_thinking": false});
    let body = json!({"structured_outputs": {"regex": "[0-9]{3}"}, "chat_template_kwargs": kwargs});
    let content = server.chat(body).await.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        content.len() == 3 && content.bytes().all(|byte| byte.is_ascii_digit()),
        "{content:?}"
    );
}

#[tokio::test]
async fn a_grammar_is_kept_and_each_choice_has_its_own() {
    let server = obeying("ab").await;
    let body =
        json!({"structured_outputs": {"grammar": "start: \"a\"{4,6}"}, "n": 3, "prompt": "x"});
    let answer = server.complete(body).await.json();
    for choice in answer["choices"].as_array().unwrap() {
        let text = choice["text"].as_str().unwrap();
        assert!(
            (4..=6).contains(&text.len()) && text.bytes().all(|byte| byte == b'a'),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_no_text_fits_is_refused_under_the_name_that_the_client_used() {
    let server = obeying("x").await;
    let large: serde_json::Map<_, _> = (0..20_000)
        .map(|i| {
            (
                format!("p{i}"),
                json!({"type": "string", "pattern": "^[a-z]{9}$"}),
            )
        })
        .collect();
    let cases = [
        ("json", json!({"type": "nothing"})),
        ("json", json!({"$ref": "#/$defs/none"})),
        ("json", json!({"$ref": "#"})),
        ("json", json!(false)),
        (
            "json",
            json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        ),
        ("json", json!({"type": "string", "pattern": "("})),
        ("json", json!({"type": "object", "properties": large})),
        ("regex", json!("(")),
        ("regex", json!("[^\\s\\S]")),
        ("regex", json!("a[^\\s\\S]")),
        ("grammar", json!("")),
        ("grammar", json!("start: nowhere")),
        ("grammar", json!("start: start")),
        ("grammar", json!("start: a\na: b\nb: a")),
    ];
    for (field, value) in cases {
        let body = json!({"structured_outputs": {(field): value}});
        let answer = server.complete(body).await;
        assert_eq!(answer.status, 400, "{field}: {}", answer.text());
        let param = format!("structured_outputs.{field}");
        assert_eq!(answer.error("param"), param, "{}", answer.text());
        let text = answer.text();
        assert!(text.len() < 600 && !text.contains("verbose"), "{text}");
    }
    let schema = json!({"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}});
    let answer = server.chat(json!({"response_format": schema})).await;
    assert_eq!(answer.error("param"), "response_format.json_schema");
    let endless =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}]);
    let answer = server
        .chat(json!({"tools": endless, "tool_choice": "required"}))
        .await;
    assert_eq!(answer.error("param"), "tools");
}

#[tokio::test]
async fn a_choice_may_hold_any_character_and_nothing_at_all() {
    let server = obeying("x").await;
    for text in ["", "\0", "\u{7f}\u{85}é\u{1f600}", "a\"b\\c\n"] {
        let body = json!({"structured_outputs": {"choice": [text]}});
        let answer = server.complete(body).await.json();
        assert_eq!(answer["choices"][0]["text"], text, "{answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn a_grammar_that_fails_later_is_still_the_request_s_own_fault() {
    use xgraft_server::engine::FinishReason;
    let server = Server::start(config(), |_| {
        Act::End(vec![5], FinishReason::Constraint("too many states".into()))
    })
    .await;
    let body = json!({"structured_outputs": {"regex": "a+"}});
    let answer = server.complete(body).await;
    assert_eq!(
        (answer.status, answer.error("param")),
        (400, json!("structured_outputs.regex"))
    );
    assert!(!answer.text().contains("states"), "{}", answer.text());
}
