//! `/v1/completions`, as one object.

use std::time::Duration;

use serde_json::json;
use xgraft_server::engine::TopLogprobs;

use crate::double::{Act, END};
use crate::server::{Server, config, ids, steady};

#[tokio::test]
async fn the_answer_has_vllm_s_form_byte_for_byte() {
    let server = Server::saying(" it up").await;
    let answer = server.complete(json!({})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let prompt = ids("Pick").len();
    let generated = ids(" it up").len() + 1;
    let expected = format!(
        concat!(
            r#"{{"id":"?","object":"text_completion","created":?,"model":"tiny","choices":[{{"index":0,"text":" it up","#,
            r#""logprobs":null,"finish_reason":"stop","stop_reason":null,"prompt_logprobs":null,"token_ids":null,"#,
            r#""prompt_token_ids":null}}],"system_fingerprint":null,"usage":{{"prompt_tokens":{prompt},"#,
            r#""total_tokens":{total},"completion_tokens":{generated},"prompt_tokens_details":{{"cached_tokens":2}}}}}}"#
        ),
        prompt = prompt,
        total = prompt + generated,
        generated = generated,
    );
    assert_eq!(steady(&answer.text()), expected);
}

#[tokio::test]
async fn every_form_of_a_prompt_reaches_the_engine_as_ids() {
    let server = Server::saying("x").await;
    let pick = ids("Pick");
    for prompt in [json!("Pick"), json!(pick), json!(["Pick"]), json!([pick])] {
        let answer = server.complete(json!({"prompt": prompt})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(server.seen().prompt, pick);
    }
    let answer = server
        .complete(json!({"prompt": ["a", "b"], "n": 2}))
        .await
        .json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(
        choices
            .iter()
            .map(|c| c["index"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let seen = server.engine.seen.lock().unwrap();
    let last: Vec<_> = seen[4..]
        .iter()
        .map(|s| (s.prompt.clone(), s.choice))
        .collect();
    assert_eq!(
        last,
        [(ids("a"), 0), (ids("a"), 1), (ids("b"), 0), (ids("b"), 1)]
    );
}

#[tokio::test]
async fn every_parameter_reaches_the_engine() {
    let server = Server::saying("x").await;
    let answer = server
        .complete(json!({
            "temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125, "presence_penalty": -1.5,
            "frequency_penalty": 1.5, "repetition_penalty": 1.25, "logit_bias": {"5": -100, "6": 2.5}, "seed": -3,
            "min_tokens": 1, "stop_token_ids": [9], "user": "me", "metadata": {"a": "b"}, "best_of": 1, "suffix": null,
        }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = server.seen();
    let sampling = seen.sampling;
    assert_eq!(
        (
            sampling.temperature,
            sampling.top_p,
            sampling.top_k,
            sampling.min_p
        ),
        (0.5, 0.25, 7, 0.125)
    );
    assert_eq!(
        (
            sampling.presence_penalty,
            sampling.frequency_penalty,
            sampling.repetition_penalty
        ),
        (-1.5, 1.5, 1.25)
    );
    assert_eq!(sampling.logit_bias, [(5, -100.0), (6, 2.5)]);
    assert_eq!(sampling.seed, (-3_i64).cast_unsigned());
    assert_eq!((seen.max_tokens, seen.min_tokens), (64, 1));
    assert_eq!(seen.stop_tokens, [END, 1011, 9]);
}

#[tokio::test]
async fn what_a_request_does_not_say_comes_from_the_model_s_own_config() {
    let mut config = config();
    config.defaults =
        xgraft_server::GenerationDefaults::open(&xgraft_fixtures::TEXT.base()).unwrap();
    let server = Server::start(config, |_| Act::Say(vec![5], Duration::ZERO)).await;
    server.complete(json!({})).await;
    let sampling = server.seen().sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.top_k),
        (0.6, 0.95, 20)
    );
    server
        .complete(json!({"temperature": 0, "top_k": -1, "ignore_eos": true}))
        .await;
    let seen = server.seen();
    assert_eq!((seen.sampling.temperature, seen.sampling.top_k), (0.0, 0));
    assert!(seen.stop_tokens.is_empty());
}

#[tokio::test]
async fn a_seed_that_nobody_gave_differs() {
    let server = Server::saying("x").await;
    server.complete(json!({})).await;
    let first = server.seen().sampling.seed;
    server.complete(json!({})).await;
    assert_ne!(server.seen().sampling.seed, first);
}

#[tokio::test]
async fn a_stop_string_ends_the_text_and_the_engine_s_work() {
    let server = Server::start(config(), |_| {
        Act::Forever(ids("a")[0], Duration::from_millis(1))
    })
    .await;
    let answer = server
        .complete(json!({"stop": ["aaaa", "b"], "max_tokens": 400}))
        .await
        .json();
    let choice = &answer["choices"][0];
    assert_eq!(
        (choice["text"].as_str(), choice["finish_reason"].as_str()),
        (Some(""), Some("stop"))
    );
    assert_eq!(choice["stop_reason"], "aaaa");
    assert_eq!(answer["usage"]["completion_tokens"], 4);
    server.until_idle(Duration::from_secs(5)).await;
    let answer = server
        .complete(json!({"stop": "aaa", "include_stop_str_in_output": true}))
        .await
        .json();
    assert_eq!(answer["choices"][0]["text"], "aaa");
    let answer = server
        .complete(json!({"stop": "aaa", "min_tokens": 5}))
        .await
        .json();
    assert_eq!(answer["choices"][0]["text"], "aaa");
}

#[tokio::test]
async fn a_stop_token_is_named_and_a_length_too() {
    let server = Server::saying("Pick it up").await;
    let third = ids("Pick it up")[2];
    let answer = server
        .complete(json!({"stop_token_ids": [third]}))
        .await
        .json();
    assert_eq!(answer["choices"][0]["stop_reason"], third);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let answer = server.complete(json!({"max_tokens": 2})).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 2);
}

#[tokio::test]
async fn echo_puts_the_prompt_and_its_logprobs_before_the_answer() {
    let server = Server::saying(" it").await;
    let answer = server
        .complete(json!({"echo": true, "logprobs": 2, "return_token_ids": true}))
        .await
        .json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], "Pick it");
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
    let prompt = ids("Pick").len();
    assert_eq!(tokens.len(), prompt + ids(" it").len() + 1);
    assert_eq!(choice["logprobs"]["token_logprobs"][0], json!(null));
    assert_eq!(choice["logprobs"]["token_logprobs"][1], json!(-0.5));
    assert_eq!(
        choice["logprobs"]["top_logprobs"][1]
            .as_object()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(choice["logprobs"]["text_offset"][0], 0);
    assert_eq!(choice["prompt_token_ids"], json!(ids("Pick")));
    assert_eq!(server.seen().prompt_logprobs, TopLogprobs::Best(2));
    let only = server
        .complete(json!({"echo": true, "logprobs": 1, "max_tokens": 0}))
        .await
        .json();
    assert_eq!(only["choices"][0]["text"], "Pick");
    assert_eq!(
        only["choices"][0]["logprobs"]["tokens"]
            .as_array()
            .unwrap()
            .len(),
        prompt
    );
    assert_eq!(server.seen().max_tokens, 0);
}

#[tokio::test]
async fn prompt_logprobs_are_objects_by_id() {
    let server = Server::saying("x").await;
    let answer = server
        .complete(json!({"prompt": "Pick it", "prompt_logprobs": 1}))
        .await
        .json();
    let list = answer["choices"][0]["prompt_logprobs"].as_array().unwrap();
    let second = ids("Pick it")[1];
    assert_eq!(list[0], json!(null));
    assert_eq!(list[1][second.to_string()]["rank"], 1);
    assert_eq!(list[1][second.to_string()]["logprob"], -0.5);
}

#[tokio::test]
async fn the_whole_vocabulary_is_given_only_by_a_server_that_allows_it() {
    let server = Server::saying("x").await;
    assert_eq!(server.complete(json!({"logprobs": -1})).await.status, 400);
    assert_eq!(
        server
            .complete(json!({"logprobs": 21}))
            .await
            .error("param"),
        "logprobs"
    );
    let mut open = config();
    open.max_logprobs = None;
    let server = Server::start(open, |_| Act::Say(vec![5], Duration::ZERO)).await;
    let answer = server
        .complete(json!({"logprobs": -1, "return_tokens_as_token_ids": true}))
        .await
        .json();
    assert_eq!(server.seen().logprobs, TopLogprobs::All);
    assert_eq!(
        answer["choices"][0]["logprobs"]["top_logprobs"][0]
            .as_object()
            .unwrap()
            .len(),
        1024
    );
    assert_eq!(answer["choices"][0]["logprobs"]["tokens"][0], "token_id:5");
}

#[tokio::test]
async fn more_logprobs_than_a_server_can_hold_are_refused() {
    let mut config = config();
    config.max_logprobs = None;
    let server = Server::start(config, |_| Act::Say(vec![5], Duration::ZERO)).await;
    let prompt: Vec<u32> = vec![5; 500];
    let all = |n: u32| json!({"prompt": prompt, "max_tokens": 1, "prompt_logprobs": -1, "n": n});
    let answer = server.complete(all(1)).await;
    assert_eq!(answer.status, 200);
    let positions = &answer.json()["choices"][0]["prompt_logprobs"];
    assert_eq!(positions.as_array().unwrap().len(), 500);
    assert_eq!(positions[1].as_object().unwrap().len(), 1024);
    let refused = server.complete(all(17)).await;
    assert_eq!(
        (refused.status, refused.error("param")),
        (400, json!("prompt_logprobs"))
    );
    let own = json!({"prompt": [5], "max_tokens": 511, "logprobs": -1, "n": 17});
    assert_eq!(
        server.complete(own.clone()).await.error("param"),
        "logprobs"
    );
    let streamed = crate::server::with(own, json!({"stream": true, "n": 2, "max_tokens": 2}));
    assert_eq!(server.complete(streamed).await.status, 200);
}
