//! The request: asked so that another server can go on with its answer.

use bytes::{Bytes, BytesMut};

use super::Seen;
use crate::scan::{self, Member, Members};

/// How a request is asked so that it can go on elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The request with what is needed put in, without its closing brace.
    open: Bytes,
    /// Whether the client asked for the ids itself.
    pub(super) shows_ids: bool,
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
