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
async fn what_cannot_be_compiled_is_refused() {
    let server = obeying("x").await;
    let schemas = [
        json!({"json": {"type": "nothing"}}),
        json!({"json": {"$ref": "#/$defs/none"}}),
        json!({"regex": "("}),
        json!({"grammar": "start: nowhere"}),
        json!({"grammar": ""}),
    ];
    for schema in schemas {
        let answer = server.complete(json!({"structured_outputs": schema})).await;
        assert_eq!(answer.status, 400, "{schema}: {}", answer.text());
        assert!(answer.body.len() < 1500);
    }
}
