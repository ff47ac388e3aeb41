//! What is refused, with which status and about which field.

use std::time::Duration;

use serde_json::{Value, json};
use xgraft_server::engine::{FinishReason, Refused};

use crate::client;
use crate::double::Act;
use crate::server::{Server, config, ids, with};

#[tokio::test]
async fn parameters_out_of_range_are_refused_by_name() {
    let server = Server::saying("x").await;
    let wrong = [
        ("temperature", json!([-0.1, 1e308, 101, "1", true])),
        ("top_p", json!([0, 1.1, -1, 1e308])),
        ("top_k", json!([-2, 1.5, 4_294_967_296_i64, "all"])),
        ("min_p", json!([-0.1, 1.1])),
        ("presence_penalty", json!([2.1, -2.1])),
        ("frequency_penalty", json!([2.1, -2.1])),
        ("repetition_penalty", json!([0, -1, 101, 0.009, 5e-324])),
        (
            "logit_bias",
            json!([{"x": 1}, {"1024": 1}, {"5": 101}, {"5": "1"}, [1], {"-1": 1}]),
        ),
        ("seed", json!([1.5, "1", 1e300])),
        ("n", json!([0, -1, 1_000_000_000, 129, 1.5])),
        (
            "max_tokens",
            json!([
                0,
                -1,
                513,
                9_223_372_036_854_775_807_i64,
                9_223_372_036_854_775_808_u64,
                1e300,
                "1"
            ]),
        ),
        ("min_tokens", json!([-1, 65, 1e300])),
        ("stop", json!(["", [""], [1], {"a": 1}, ["x".repeat(1025)]])),
        (
            "stop_token_ids",
            json!([[-1], [1024], "x", [1.5], [4_294_967_296_i64]]),
        ),
        ("logprobs", json!([-1, -2, 21, "1"])),
        ("prompt_logprobs", json!([-2, 21])),
        ("stream", json!(["yes", 1])),
        ("echo", json!(["yes"])),
        (
            "prompt",
            json!([[], 5, [[]  , 5], [-1], [1.5], [[1.5]], [["a"]], {"a": 1}]),
        ),
        ("response_format", json!(["json", 5])),
        (
            "structured_outputs",
            json!(["json", {"json": {}, "regex": "a"}, {"choice": "AAA"}]),
        ),
        ("best_of", json!([2])),
        ("suffix", json!(["tail"])),
        ("use_beam_search", json!([true])),
        ("guided_json", json!([{}])),
        ("truncate_prompt_tokens", json!([5])),
        ("no_such_parameter", json!([1, "x", {}])),
    ];
    for (field, values) in wrong {
        for value in values.as_array().unwrap() {
            let answer = server.complete(json!({(field): value})).await;
            assert_eq!(answer.status, 400, "{field} {value}: {}", answer.text());
            let param = answer.error("param");
            assert!(
                param.as_str().is_some_and(|param| param.starts_with(field)),
                "{field} {value}: {param}"
            );
        }
    }
    assert!(server.engine.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn chat_has_its_own_refusals() {
    let server = Server::saying("x").await;
    let wrong = [
        (
            "messages",
            json!([null, [], "hi", [5], [{"role": "user"}], [{"role": "user", "content": [{"type": "image_url"}]}]]),
        ),
        ("functions", json!([[{"name": "f"}]])),
        ("audio", json!([{"voice": "x"}])),
        ("modalities", json!([["text", "audio"]])),
        ("reasoning_effort", json!(["low"])),
        ("chat_template", json!(["{{ messages }}"])),
        ("chat_template_kwargs", json!([5, []])),
        ("parallel_tool_calls", json!(["no"])),
        ("store", json!([true])),
        ("echo", json!([true])),
    ];
    for (field, values) in wrong {
        for value in values.as_array().unwrap() {
            let answer = server.chat(json!({(field): value})).await;
            assert_eq!(answer.status, 400, "{field} {value}: {}", answer.text());
            let param = answer.error("param");
            assert!(
                param.as_str().is_some_and(|param| param.starts_with(field)),
                "{field} {value}: {param}"
            );
        }
    }
    let reserved = server
        .chat(json!({"chat_template_kwargs": {"messages": []}}))
        .await;
    assert_eq!(reserved.status, 400);
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused() {
    let server = Server::saying("x").await;
    for body in [
        "",
        "null",
        "5",
        "\"x\"",
        "[]",
        "{",
        "{\"prompt\": NaN}",
        "{\"prompt\": \"\\ud800\"}",
        "{\"temperature\": 1e999}",
        "{\"prompt\": \"a\", \"prompt\": \"b\"}",
    ] {
        for path in [
            "/v1/completions",
            "/v1/chat/completions",
            "/tokenize",
            "/detokenize",
        ] {
            let answer = client::post(server.address, path, body).await;
            assert_eq!(answer.status, 400, "{path} {body}");
            answer.error("message");
        }
    }
}

#[tokio::test]
async fn integers_may_be_written_as_floats_and_nulls_of_any_name_mean_nothing() {
    let server = Server::saying("x").await;
    let body = json!({"prompt": [[5.0, 6]], "max_tokens": 3.0, "seed": -1.0, "stop_token_ids": [7.0], "what": null});
    assert_eq!(server.complete(body).await.status, 200);
    assert_eq!(server.seen().prompt, [5, 6]);
    let body = json!({"tokens": [5.0], "": null});
    assert_eq!(server.post("/detokenize", body).await.status, 200);
    for tokens in [json!([1.5]), json!([-1.0]), json!(["5"])] {
        let answer = server.post("/detokenize", json!({"tokens": tokens})).await;
        assert_eq!(answer.error("param"), "tokens");
    }
}

#[tokio::test]
async fn a_body_that_does_not_say_that_it_is_json_is_refused() {
    let server = Server::saying("x").await;
    let body = r#"{"prompt": "a"}"#;
    for (kind, status) in [
        ("", 415),
        ("content-type: text/plain\r\n", 415),
        ("content-type: application/x-www-form-urlencoded\r\n", 415),
        ("content-type: Application/JSON; charset=utf-8\r\n", 200),
    ] {
        let bytes = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{kind}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = client::exchange(server.address, bytes.as_bytes()).await;
        assert_eq!(client::Answer::parse(&answer).status, status, "{kind}");
    }
}

#[tokio::test]
async fn an_unknown_model_path_and_method_are_told_apart() {
    let server = Server::saying("x").await;
    let answer = server.complete(json!({"model": "other"})).await;
    assert_eq!(
        (answer.status, answer.error("param"), answer.error("type")),
        (404, json!("model"), json!("NotFoundError"))
    );
    assert_eq!(server.complete(json!({"model": null})).await.status, 200);
    assert_eq!(
        client::get(server.address, "/v2/none").await.error("type"),
        "NotFoundError"
    );
    let answer = client::get(server.address, "/v1/completions").await;
    assert_eq!(answer.error("code"), 405);
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_with_the_numbers() {
    let server = Server::saying("x").await;
    let prompt: Vec<u32> = vec![5; 512];
    for body in [
        json!({"prompt": prompt}),
        json!({"prompt": prompt, "max_tokens": null}),
        json!({"prompt": [5, 5], "max_tokens": 511}),
    ] {
        let answer = server.complete(body).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer
                .error("message")
                .as_str()
                .unwrap()
                .contains("maximum context length is 512")
        );
    }
    assert_eq!(
        server
            .complete(json!({"prompt": [5, 5], "max_tokens": 510}))
            .await
            .status,
        200
    );
    assert_eq!(
        server.complete(json!({"prompt": [5, 2000]})).await.status,
        400
    );
}

#[tokio::test]
async fn the_engine_s_refusals_have_their_status_in_a_stream_too() {
    let full = Refused::QueueFull {
        waiting: 9,
        retry_after: Duration::from_millis(2500),
    };
    let cases: [(Refused, u16, Option<&str>); 6] = [
        (full, 429, Some("3")),
        (Refused::Draining, 503, Some("1")),
        (Refused::Failed("gone".into()), 503, None),
        (Refused::UnknownAdapter("a".into()), 404, None),
        (
            Refused::TooLong {
                prompt: 9,
                limit: 8,
            },
            400,
            None,
        ),
        (
            Refused::UnknownToken {
                id: 9,
                vocab_size: 8,
            },
            400,
            None,
        ),
    ];
    for (refused, status, after) in cases {
        let server = Server::start(config(), move |_| Act::Refuse(refused.clone())).await;
        for stream in [false, true] {
            let answer = server.complete(json!({"stream": stream})).await;
            assert_eq!(
                (answer.status, answer.header("retry-after")),
                (status, after)
            );
            answer.error("message");
        }
    }
}

#[tokio::test]
async fn one_refusal_among_several_choices_cancels_the_others() {
    let server = Server::start(config(), |request| match request.choice {
        2 => Act::Refuse(Refused::Draining),
        _ => Act::Hang,
    })
    .await;
    assert_eq!(server.complete(json!({"n": 3})).await.status, 503);
    server.until_idle(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_failure_of_the_engine_is_an_error_of_the_server() {
    for act in [
        Act::End(vec![5], FinishReason::Error("the device is gone".into())),
        Act::Die(vec![5]),
    ] {
        let server = Server::start(config(), move |_| act.clone()).await;
        assert_eq!(server.complete(json!({})).await.error("code"), 500);
    }
}

#[tokio::test]
async fn an_error_never_repeats_much_of_the_request() {
    let server = Server::saying("x").await;
    let long = "x".repeat(1 << 20);
    let bodies: [Value; 3] = [
        json!({(long.clone()): 1}),
        json!({"model": long.clone()}),
        json!({"response_format": {"type": long}}),
    ];
    for body in bodies {
        let answer = server
            .post("/v1/completions", with(json!({"prompt": "a"}), body))
            .await;
        assert!(
            answer.status >= 400 && answer.body.len() < 1024,
            "{}",
            answer.body.len()
        );
    }
}

/// The error's `param` of a request that is refused.
async fn refused_param(server: &Server, path: &str, body: Value) -> Value {
    let answer = server.post(path, body.clone()).await;
    assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    answer.error("param")
}

#[tokio::test]
async fn what_the_engine_refuses_is_named_after_the_field_of_the_prompt() {
    let server = Server::saying("x").await;
    let long = "word ".repeat(600);
    for (path, body, param) in [
        ("/v1/completions", json!({"prompt": ""}), "prompt"),
        ("/v1/completions", json!({"prompt": ["a", ""]}), "prompt"),
        ("/v1/completions", json!({"prompt": [5, 2000]}), "prompt"),
        ("/v1/completions", json!({"prompt": long.clone()}), "prompt"),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": long}]}),
            "messages",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"messages": []}}),
            "chat_template_kwargs.messages",
        ),
    ] {
        assert_eq!(refused_param(&server, path, body).await, param);
    }
}

#[tokio::test]
async fn what_would_be_ignored_is_refused_by_name() {
    let server = Server::saying("x").await;
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let user = json!({"role": "user", "content": "a"});
    let call = |call: Value| json!({"messages": [user.clone(), {"role": "assistant", "tool_calls": [call]}]});
    let message =
        |key: &str, value: Value| json!({"messages": [with(user.clone(), json!({(key): value}))]});
    for (body, param) in [
        (
            json!({"stream": true, "stream_options": {"continuous_usage_stats": true}}),
            "stream_options.continuous_usage_stats",
        ),
        (
            json!({"chat_template_kwargs": {"enable_thinkin": false}}),
            "chat_template_kwargs.enable_thinkin",
        ),
        (json!({"documents": [{"text": "a"}]}), "documents"),
        (
            json!({"tools": [tool("a"), tool("b"), tool("a")]}),
            "tools[2].function.name",
        ),
        (message("prefix", json!(true)), "messages[0].prefix"),
        (
            message(
                "content",
                json!([{"type": "text", "text": "a", "annotations": {}}]),
            ),
            "messages[0].content.annotations",
        ),
        (
            call(
                json!({"id": "1", "type": "function", "what": 1, "function": {"name": "a", "arguments": "{}"}}),
            ),
            "messages[1].tool_calls.what",
        ),
        (
            call(
                json!({"id": "1", "type": "function", "function": {"name": "a", "arguments": "{}", "strict": true}}),
            ),
            "messages[1].tool_calls.function.strict",
        ),
    ] {
        let messages = json!({"messages": [user.clone()]});
        let param = (
            refused_param(&server, "/v1/chat/completions", with(messages, body)).await,
            param,
        );
        assert_eq!(param.0, param.1);
    }
    let answer = server.complete(json!({"guided_regex": "a"})).await;
    let message = answer.error("message");
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("`structured_outputs.regex`"),
        "{message}"
    );
}

#[tokio::test]
async fn a_message_goes_back_as_it_was_given() {
    let server = Server::saying("x").await;
    let answer = server.chat(json!({"reasoning": null})).await.json();
    let mut message = answer["choices"][0]["message"].clone();
    assert!(message.get("tool_calls").is_none(), "{message}");
    // What the Python client adds when it writes its own objects.
    for name in ["annotations", "audio", "function_call"] {
        message[name] = Value::Null;
    }
    let user = json!({"role": "user", "content": "a"});
    let body = json!({"messages": [user.clone(), message, user]});
    assert_eq!(server.chat(body).await.status, 200);
}

#[tokio::test]
async fn an_empty_list_of_calls_is_as_good_as_none() {
    // As templates do that write either calls or content, and that cannot write a message of no calls.
    let template = "{% for m in messages %}{% if m.tool_calls is defined %}{{ m.tool_calls[0].function.name }}\
        {% else %}{{ m.content }}{% endif %}{% endfor %}";
    let template =
        xgraft_tokenizer::ChatTemplate::from_source(template, serde_json::Map::new()).unwrap();
    let server = Server::with_template(template).await;
    let user = json!({"role": "user", "content": "a"});
    let mut prompts = Vec::new();
    for calls in [json!([]), Value::Null] {
        let message = json!({"role": "assistant", "content": "said", "tool_calls": calls});
        let body = json!({"messages": [user.clone(), message]});
        let answer = server.chat(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        prompts.push(server.seen().prompt);
    }
    assert_eq!(prompts, [ids("asaid"), ids("asaid")]);
}

#[tokio::test]
async fn what_clients_add_of_themselves_is_taken() {
    let server = Server::saying("x").await;
    let user = json!({"role": "user", "content": "a"});
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}});
    for messages in [
        json!([{"role": "user", "content": "a", "type": "text"}]),
        json!([{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}]),
        json!([user.clone(), {"role": "assistant", "content": null, "refusal": "no"}, user.clone()]),
        json!([user.clone(), {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, user.clone()]),
        json!([user.clone(), {"role": "assistant", "content": null, "tool_calls": [call]}, user]),
    ] {
        let body = json!({"messages": messages, "prompt_cache_retention": "24h"});
        let answer = server.chat(body).await;
        assert_eq!(answer.status, 200, "{messages}: {}", answer.text());
    }
    let answer = server
        .complete(json!({"prompt_cache_retention": "in_memory"}))
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn tools_are_refused_where_the_template_does_not_read_them() {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let template =
        xgraft_tokenizer::ChatTemplate::from_source(template, serde_json::Map::new()).unwrap();
    let server = Server::with_template(template).await;
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let messages = json!({"messages": [{"role": "user", "content": "a"}]});
    for choice in [json!("auto"), Value::Null] {
        let more = json!({"tools": tools, "tool_choice": choice});
        let body = with(messages.clone(), more);
        let param = refused_param(&server, "/v1/chat/completions", body).await;
        assert_eq!(param, "tools");
    }
    // They bind the answer, or are not wanted.
    for choice in ["none", "required"] {
        let more = json!({"tools": tools, "tool_choice": choice});
        let body = with(messages.clone(), more);
        let answer = server.post("/v1/chat/completions", body).await;
        assert_ne!(answer.status, 400, "{}", answer.text());
    }
    let body = with(messages, json!({"tools": []}));
    assert_eq!(server.post("/v1/chat/completions", body).await.status, 200);
}
