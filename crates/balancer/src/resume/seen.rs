//! The answer: what came of it, and one stream of what two servers say.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::Plan;
use crate::events::{self, Kind};

const IDS: &[u8] = b",\"token_ids\":[";
const PROMPT_IDS: &[u8] = b",\"prompt_token_ids\":[";
const CREATED: &[u8] = b"\"created\":";

/// What a client has seen of a stream.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The ids of all tokens that came, as JSON has them between brackets.
    pub(super) ids: Vec<u8>,
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
