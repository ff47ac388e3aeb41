//! `/v1/chat/completions`, as one object.

use std::time::Duration;

use serde_json::{Value, json};

use crate::double::Act;
use crate::server::{Server, config, ids, steady, with};

pub(crate) const CALL: &str =
    "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"gene\": \"BRC1\"}}\n</tool_call>";

pub(crate) fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "look", "parameters": {
            "type": "object", "properties": {"gene": {"type": "string"}}, "required": ["gene"],
            "additionalProperties": false}}},
        {"type": "function", "function": {"name": "stop", "parameters": {
            "type": "object", "properties": {}, "additionalProperties": false}}},
    ])
}

#[tokio::test]
async fn the_answer_has_vllm_s_form_byte_for_byte() {
    let server = Server::saying("<think>\nwhy\n</think>\n\nyes").await;
    let answer = server.chat(json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = "<|im_start|>user\nPick.<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(server.seen().prompt, ids(text));
    let prompt = ids(text).len();
    let generated = ids("<think>\nwhy\n</think>\n\nyes").len() + 1;
    let expected = format!(
        concat!(
            r#"{{"id":"?","object":"chat.completion","created":?,"model":"tiny","choices":[{{"index":0,"message":"#,
            r#"{{"role":"assistant","content":"\n\nyes","refusal":null,"reasoning":"\nwhy\n","#,
            r#""reasoning_content":"\nwhy\n"}},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}}],"#,
            r#""service_tier":null,"system_fingerprint":null,"usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"#,
            r#""completion_tokens":{generated},"prompt_tokens_details":{{"cached_tokens":2}}}},"prompt_logprobs":null,"#,
            r#""prompt_token_ids":null}}"#
        ),
        prompt = prompt,
        total = prompt + generated,
        generated = generated,
    );
    assert_eq!(steady(&answer.text()), expected);
}

#[tokio::test]
async fn thinking_is_switched_by_the_template_and_left_out_on_demand() {
    let server = Server::saying("<think>\nwhy\n</think>\n\nyes").await;
    let answer = server
        .chat(json!({"include_reasoning": false}))
        .await
        .json();
    assert_eq!(answer["choices"][0]["message"]["reasoning"], json!(null));
    assert_eq!(answer["choices"][0]["message"]["content"], "\n\nyes");
    let answer = server
        .chat(json!({"chat_template_kwargs": {"enable_thinking": false}}))
        .await
        .json();
    assert!(
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .starts_with("<think>")
    );
    assert!(
        server
            .seen()
            .prompt
            .ends_with(&ids("<think>\n\n</think>\n\n"))
    );
}

#[tokio::test]
async fn the_final_message_is_continued() {
    let server = Server::saying("x").await;
    let messages =
        json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "I think"}]);
    let body = json!({"messages": messages, "continue_final_message": true, "add_generation_prompt": false});
    let answer = server.chat(body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(server.seen().prompt.ends_with(&ids("I think")));
    let answer = server.chat(json!({"continue_final_message": true})).await;
    assert_eq!(answer.error("param"), "continue_final_message");
}

#[tokio::test]
async fn max_tokens_has_two_names_and_the_rest_of_the_context_as_its_default() {
    let server = Server::saying("x").await;
    server.chat(json!({"max_completion_tokens": 5})).await;
    assert_eq!(server.seen().max_tokens, 5);
    server.chat(json!({})).await;
    let seen = server.seen();
    assert_eq!(seen.max_tokens, 512 - seen.prompt.len());
    assert_eq!(
        server
            .chat(json!({"max_tokens": 4, "max_completion_tokens": 5}))
            .await
            .error("param"),
        "max_tokens"
    );
}

#[tokio::test]
async fn logprobs_have_the_token_its_bytes_and_the_best() {
    let server = Server::saying("µ").await;
    let answer = server
        .chat(json!({"logprobs": true, "top_logprobs": 2}))
        .await
        .json();
    let content = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(content.len(), ids("µ").len() + 1);
    let first = &content[0];
    let bytes: Vec<u8> = content[..content.len() - 1]
        .iter()
        .flat_map(|token| {
            token["bytes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|byte| byte.as_u64().unwrap() as u8)
        })
        .collect();
    assert_eq!(bytes, "µ".as_bytes());
    assert_eq!(first["logprob"], -0.5);
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(
        server.chat(json!({"top_logprobs": 2})).await.error("param"),
        "top_logprobs"
    );
}

#[tokio::test]
async fn calls_are_read_where_the_model_may_call() {
    let server = Server::saying(&format!("I look.\n{CALL}")).await;
    let answer = server.chat(json!({"tools": tools()})).await.json();
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], "I look.");
    assert_eq!(
        message["tool_calls"][0]["function"],
        json!({"name": "look", "arguments": "{\"gene\": \"BRC1\"}"})
    );
    assert_eq!(message["tool_calls"][0]["type"], "function");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let answer = server
        .chat(json!({"tools": tools(), "tool_choice": "none"}))
        .await
        .json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .contains("<tool_call>")
    );
}

#[tokio::test]
async fn a_call_that_must_come_comes_whatever_the_model_would_say() {
    let server = Server::start(config(), |_| Act::Obey(ids("I would rather not."))).await;
    let named = json!({"type": "function", "function": {"name": "stop"}});
    let answer = server
        .chat(json!({"tools": tools(), "tool_choice": named}))
        .await
        .json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(
        *call,
        json!({"name": "stop", "arguments": "{}"}),
        "{answer}"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let wish = Server::start(config(), |_| Act::Obey(ids(CALL))).await;
    let answer = wish
        .chat(json!({"tools": tools(), "tool_choice": "required", "parallel_tool_calls": false}))
        .await
        .json();
    assert_eq!(
        answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "look",
        "{answer}"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn a_call_that_must_come_and_is_cut_off_is_a_call_as_far_as_it_goes() {
    let server = Server::start(config(), |_| Act::Obey(ids(CALL))).await;
    let call = |max_tokens: usize| {
        json!({"tools": tools(), "tool_choice": "required", "max_tokens": max_tokens,
            "chat_template_kwargs": {"enable_thinking": false}})
    };
    for max_tokens in 1..ids(CALL).len() {
        let answer = server.chat(call(max_tokens)).await.json();
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "length");
        assert!(
            choice["message"]["content"]
                .as_str()
                .is_none_or(str::is_empty),
            "{answer}"
        );
        let body = with(call(max_tokens), json!({"stream": true}));
        for chunk in &server.chat(body).await.chunks()[1..] {
            let delta = &chunk["choices"][0]["delta"];
            assert!(delta.get("content").is_none(), "{chunk}");
        }
    }
    let answer = server.chat(call(ids(CALL).len() - 3)).await.json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "look", "{answer}");
}

#[tokio::test]
async fn a_choice_among_no_tools_is_refused() {
    let server = Server::saying("x").await;
    let other = json!({"type": "function", "function": {"name": "other"}});
    for body in [
        json!({"tool_choice": "required"}),
        json!({"tool_choice": [null]}),
        json!({"tool_choice": 5}),
        json!({"tool_choice": other}),
        json!({"tools": tools(), "tool_choice": other}),
        json!({"tools": tools(), "tool_choice": "sometimes"}),
        json!({"tools": tools(), "tool_choice": "required", "response_format": {"type": "json_object"}}),
    ] {
        assert_eq!(server.chat(body).await.error("param"), "tool_choice");
    }
    assert_eq!(
        server
            .chat(json!({"tools": [{"type": "other"}]}))
            .await
            .error("param"),
        "tools"
    );
}

#[tokio::test]
async fn choices_do_not_mix() {
    let server = Server::start(config(), |request| {
        Act::Say(
            ids(&format!("choice {}", request.choice)),
            Duration::from_millis(1),
        )
    })
    .await;
    let answer = server
        .chat(json!({"n": 5, "return_token_ids": true}))
        .await
        .json();
    for (index, choice) in answer["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!(choice["message"]["content"], format!("choice {index}"));
        assert_eq!(
            choice["token_ids"].as_array().unwrap().len(),
            ids("choice 0").len() + 1
        );
    }
    assert_eq!(answer["prompt_token_ids"], json!(server.seen().prompt));
}
