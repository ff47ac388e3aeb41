use serde_json::{Value, json};

use bytes::Bytes;

use super::{Plan, Seen};

fn plan(body: &str) -> Option<Plan> {
    Plan::of(body.as_bytes(), 14)
}

fn parsed(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn a_request_is_asked_for_its_ids_and_has_a_seed() {
    let made = plan(r#"{"model":"m","stream":true}"#).unwrap();
    assert_eq!(
        parsed(&made.body()),
        json!({"model": "m", "stream": true, "return_token_ids": true, "seed": 7})
    );
    let made = plan(r#" {"return_token_ids":null, "seed":9, "stream":true} "#).unwrap();
    assert_eq!(
        parsed(&made.body()),
        json!({"return_token_ids": true, "seed": 9, "stream": true})
    );
    let made = plan(r#"{"seed": null, "x": 1, "return_token_ids": false}"#).unwrap();
    assert_eq!(
        parsed(&made.body()),
        json!({"seed": 7, "x": 1, "return_token_ids": true})
    );
    assert!(!made.shows_ids);
    assert!(
        plan(r#"{"a":1,"return_token_ids":true}"#)
            .unwrap()
            .shows_ids
    );
}

#[test]
fn what_cannot_go_on_has_no_plan() {
    for body in [
        r#"{"n":2}"#,
        r#"{"continue_from":{"token_ids":[1]}}"#,
        r#"{"echo":true}"#,
        r#"{"logprobs":3}"#,
        r#"{"prompt":["a","b"]}"#,
        r#"{"prompt":[[1],[2]]}"#,
        r#"{"seed":1,"seed":2}"#,
        r#"{"se\u0065d":1}"#,
        r#"{"a":1"#,
        "[]",
        "{}",
    ] {
        assert!(plan(body).is_none(), "{body}");
    }
    for body in [
        r#"{"a":1,"n":1,"prompt":[1,2],"logprobs":true,"echo":false}"#,
        r#"{"a":1,"prompt":"a","continue_from":null}"#,
    ] {
        assert!(plan(body).is_some(), "{body}");
    }
}

fn chunk(delta: &str, ids: &str, created: u32) -> String {
    format!(
        "data: {{\"id\":\"c\",\"created\":{created},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":null{ids}}}]}}\n\n"
    )
}

fn pass(seen: &mut Seen, plan: &Plan, text: &str) -> String {
    let bytes = seen.pass(plan, &Bytes::from(text.to_owned()));
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn ids_are_collected_and_hidden_and_the_second_server_is_asked_for_the_rest() {
    let made = plan(r#"{"stream":true}"#).unwrap();
    let mut seen = Seen::default();
    let role = chunk(r#"{"role":"assistant","content":""}"#, "", 5);
    let first = role.replace("]}\n", "],\"prompt_token_ids\":[1,2]}\n");
    assert_eq!(pass(&mut seen, &made, &first), role);
    let both = chunk(r#"{"content":"a"}"#, ",\"token_ids\":[3,4]", 5)
        + &chunk("{}", ",\"token_ids\":[5]", 5)
        + &chunk(r#"{"content":"b"}"#, ",\"token_ids\":[6]", 5);
    let shown = chunk(r#"{"content":"a"}"#, "", 5) + &chunk(r#"{"content":"b"}"#, "", 5);
    assert_eq!(pass(&mut seen, &made, &both), shown);
    let after = parsed(&made.body_after(&seen));
    assert_eq!(after["continue_from"]["token_ids"], json!([3, 4, 5, 6]));
    seen.resume();
    assert_eq!(pass(&mut seen, &made, &first), "");
    let more = chunk(r#"{"content":"c"}"#, ",\"token_ids\":[7]", 99);
    assert_eq!(
        pass(&mut seen, &made, &more),
        chunk(r#"{"content":"c"}"#, "", 5)
    );
}

#[test]
fn who_asked_for_ids_sees_them_once() {
    let made = plan(r#"{"stream":true,"return_token_ids":true}"#).unwrap();
    let mut seen = Seen::default();
    let event = chunk("{}", ",\"token_ids\":[3],\"prompt_token_ids\":[1]", 5);
    assert_eq!(pass(&mut seen, &made, &event), event);
    seen.resume();
    let again = chunk("{}", ",\"token_ids\":[3]", 5);
    assert_eq!(pass(&mut seen, &made, &event), again);
}

#[test]
fn an_end_that_was_seen_is_not_seen_twice() {
    let made = plan(r#"{"stream":true}"#).unwrap();
    let mut seen = Seen::default();
    let end = chunk(r#"{"content":"a"}"#, ",\"token_ids\":[3]", 5)
        .replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
    assert!(!pass(&mut seen, &made, &end).is_empty());
    seen.resume();
    assert_eq!(pass(&mut seen, &made, &end), "");
    let done = "data: [DONE]\n\n";
    assert_eq!(pass(&mut seen, &made, done), done);
}

#[test]
fn a_text_that_looks_like_ids_stays() {
    let made = plan(r#"{"stream":true}"#).unwrap();
    let text = serde_json::to_string(",\"token_ids\":[9],\"created\":7 \"delta\":{},").unwrap();
    let event = chunk(&format!("{{\"content\":{text}}}"), "", 5);
    let mut seen = Seen::default();
    assert_eq!(pass(&mut seen, &made, &event), event);
    assert!(!seen.can_resume());
}
