//! Going on with a stream at another server, token for token.
//!
//! A server of ours says with `return_token_ids` which tokens each event is made of, and goes on after given ones with
//! `continue_from`. So the request is asked for the ids, these are collected and hidden from a client that did not ask for
//! them, and what comes from the second server is made one stream with what came from the first.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use crate::events::{self, Kind};
use crate::scan::{self, Member, Members};

const IDS: &[u8] = b",\"token_ids\":[";
const PROMPT_IDS: &[u8] = b",\"prompt_token_ids\":[";
const CREATED: &[u8] = b"\"created\":";

/// How a request is asked so that it can go on elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The request with what is needed put in, without its closing brace.
    open: Bytes,
    /// Whether the client asked for the ids itself.
    shows_ids: bool,
}

/// What a request says that matters here; by where it stands in the body.
#[derive(Debug, Default)]
struct Found {
    seed: Option<Member>,
    return_ids: Option<Member>,
    refused: bool,
    any: bool,
}

impl Plan {
    /// A plan for a streamed request, if its answer can go on elsewhere: one choice of one prompt, not itself a continuation.
    /// Where the request has no seed it gets `seed`, so that the second server draws as the first one would have.
    pub(crate) fn of(body: &[u8], seed: u64) -> Option<Self> {
        let mut members = Members::of(body);
        let mut found = Found::default();
        for member in members.by_ref() {
            found.look_at(body, member);
        }
        let end = members.end()?;
        if found.refused || !found.any {
            return None;
        }
        let shows_ids = found
            .return_ids
            .as_ref()
            .is_some_and(|member| &body[member.value.clone()] == b"true");
        let seed = seed >> 1;
        let edits = [
            (found.return_ids, "return_token_ids", "true".to_owned()),
            (found.seed, "seed", seed.to_string()),
        ];
        let mut open = Vec::with_capacity(end + 64);
        let mut replaced: Vec<(std::ops::Range<usize>, &str)> = Vec::new();
        let mut added = String::new();
        for (member, name, value) in &edits {
            match member {
                Some(member) if *name == "seed" && !scan::is_null(&body[member.value.clone()]) => {}
                Some(member) => replaced.push((member.value.clone(), value)),
                None => added.push_str(&format!(",\"{name}\":{value}")),
            }
        }
        replaced.sort_by_key(|(range, _)| range.start);
        let mut at = 0;
        for (range, value) in replaced {
            open.extend_from_slice(&body[at..range.start]);
            open.extend_from_slice(value.as_bytes());
            at = range.end;
        }
        open.extend_from_slice(&body[at..end]);
        open.extend_from_slice(added.as_bytes());
        Some(Self {
            open: open.into(),
            shows_ids,
        })
    }

    /// The body for a server that starts.
    pub(crate) fn body(&self) -> Bytes {
        self.with(b"")
    }

    /// The body for a server that goes on.
    pub(crate) fn body_after(&self, seen: &Seen) -> Bytes {
        let more = [b",\"continue_from\":{\"token_ids\":[", &*seen.ids, b"]}"].concat();
        self.with(&more)
    }

    fn with(&self, more: &[u8]) -> Bytes {
        let mut body = BytesMut::with_capacity(self.open.len() + more.len() + 1);
        body.extend_from_slice(&self.open);
        body.extend_from_slice(more);
        body.extend_from_slice(b"}");
        body.freeze()
    }
}

impl Found {
    fn look_at(&mut self, body: &[u8], member: Member) {
        self.any = true;
        let value = &body[member.value.clone()];
        let slot = match &body[member.key.clone()] {
            b"seed" => &mut self.seed,
            b"return_token_ids" => &mut self.return_ids,
            b"n" => return self.refuse_unless(value == b"1" || scan::is_null(value)),
            b"continue_from" => return self.refuse_unless(scan::is_null(value)),
            b"echo" => return self.refuse_unless(value == b"false" || scan::is_null(value)),
            // The offsets of an answer's logprobs would begin again; those of a chat, which say true, have none.
            b"logprobs" => {
                return self
                    .refuse_unless(scan::is_null(value) || value == b"true" || value == b"false");
            }
            b"prompt" => return self.refuse_unless(is_one_prompt(value)),
            // A key that is spelled with escapes could be any of these.
            key if key.contains(&b'\\') => return self.refuse_unless(false),
            _ => return,
        };
        if slot.replace(member).is_some() {
            self.refused = true;
        }
    }

    fn refuse_unless(&mut self, fine: bool) {
        self.refused |= !fine;
    }
}

/// A text, or token ids.
fn is_one_prompt(value: &[u8]) -> bool {
    match value.first() {
        Some(b'"') => true,
        Some(b'[') => value[1..]
            .trim_ascii_start()
            .first()
            .is_some_and(u8::is_ascii_digit),
        _ => false,
    }
}

/// What a client has seen of a stream.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The ids of all tokens that came, as JSON has them between brackets.
    ids: Vec<u8>,
    /// The `created` of the first event, which all others repeat.
    created: Vec<u8>,
    /// The choice has ended; only usage and `[DONE]` are missing.
    finished: bool,
    /// What comes now comes from another server than what came first.
    resumed: bool,
}

impl Seen {
    /// Whether there is something to go on after.
    pub(crate) fn can_resume(&self) -> bool {
        !self.ids.is_empty()
    }

    /// From now on it is another server that speaks.
    pub(crate) fn resume(&mut self) {
        self.resumed = true;
    }

    /// Notes what whole events say, and makes of them what the client is to see.
    pub(crate) fn pass(&mut self, plan: &Plan, whole: &Bytes) -> Bytes {
        let mut out = BytesMut::with_capacity(whole.len());
        for event in events::each(whole) {
            self.event(plan, event, &mut out);
        }
        out.freeze()
    }

    fn event(&mut self, plan: &Plan, event: &[u8], out: &mut BytesMut) {
        if events::kind(event) != Kind::Object {
            out.extend_from_slice(event);
            return;
        }
        let ids = list(event, IDS);
        if let Some((_, ids)) = &ids {
            if !ids.is_empty() && !self.ids.is_empty() {
                self.ids.push(b',');
            }
            self.ids.extend_from_slice(ids);
        }
        let finishes = memmem::find(event, b"\"finish_reason\":\"").is_some();
        let is_again = self.resumed && (repeats_role(event) || finishes && self.finished);
        self.finished |= finishes;
        if is_again || !plan.shows_ids && ids.is_some() && says_nothing(event) {
            return;
        }
        let prompt = list(event, PROMPT_IDS).filter(|_| !plan.shows_ids || self.resumed);
        let ids = ids.filter(|_| !plan.shows_ids);
        let mut cuts = [
            prompt.map(|(range, _)| (range, &b""[..])),
            ids.map(|(range, _)| (range, &b""[..])),
            self.created(event),
        ];
        cuts.sort_by_key(|cut| cut.as_ref().map_or(0, |(range, _)| range.start));
        let mut at = 0;
        let mut kept = Vec::with_capacity(event.len());
        for (range, instead) in cuts.into_iter().flatten() {
            kept.extend_from_slice(&event[at..range.start]);
            kept.extend_from_slice(instead);
            at = range.end;
        }
        kept.extend_from_slice(&event[at..]);
        out.extend_from_slice(&kept);
    }

    /// Where `created` stands in an event of another server, and what it was in the first event.
    fn created(&mut self, event: &[u8]) -> Option<(std::ops::Range<usize>, &[u8])> {
        if !self.resumed && !self.created.is_empty() {
            return None;
        }
        let start = memmem::find(event, CREATED)? + CREATED.len();
        let digits = event[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        let range = start..start + digits.count();
        if self.created.is_empty() {
            self.created = event[range].to_vec();
            return None;
        }
        Some((range, &self.created))
    }
}

/// Where a list of numbers stands with the comma and name before it, and what is between its brackets.
///
/// No text can be taken for it: within a JSON string its quotes would be escaped.
fn list<'a>(event: &'a [u8], name: &[u8]) -> Option<(std::ops::Range<usize>, &'a [u8])> {
    let start = memmem::find(event, name)?;
    let inner = start + name.len();
    let end = inner + memchr::memchr(b']', &event[inner..])?;
    Some((start..end + 1, &event[inner..end]))
}

/// The first event of a chat.
fn repeats_role(event: &[u8]) -> bool {
    memmem::find(event, b"\"delta\":{\"role\":").is_some()
}

/// Whether the event is there for its ids only: without them the server would not have sent it.
fn says_nothing(event: &[u8]) -> bool {
    let has = |part: &[u8]| memmem::find(event, part).is_some();
    has(b"\"logprobs\":null")
        && has(b"\"finish_reason\":null")
        && (has(b"\"delta\":{},") || has(b"\"text\":\"\","))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
}
