//! Server-sent events in a stream of bytes.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde_json::Value;

/// Bytes of an event that is not complete yet.
pub(crate) const LONGEST: usize = 4 << 20;

/// What a text in UTF-8 may begin with.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Cuts what comes into whole events. What comes with whole events only is passed on as it is, without a copy.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    tail: BytesMut,
}

/// An event grew beyond [`LONGEST`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Splitter {
    /// All events that are complete now, as they came; empty if none is.
    pub(crate) fn push(&mut self, mut bytes: Bytes) -> Result<Bytes, TooLong> {
        if self.tail.is_empty() {
            let end = complete(&bytes);
            let whole = bytes.split_to(end);
            return self.keep(&bytes).map(|()| whole);
        }
        // A boundary may begin in what is kept.
        self.keep(&bytes)?;
        let end = complete(&self.tail);
        Ok(self.tail.split_to(end).freeze())
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), TooLong> {
        self.tail.extend_from_slice(rest);
        if complete(&self.tail) == 0 && self.tail.len() > LONGEST {
            return Err(TooLong);
        }
        Ok(())
    }

    /// Whether the stream ended between two events.
    pub(crate) fn is_between(&self) -> bool {
        self.tail.is_empty()
    }
}

/// The length of all whole events.
fn complete(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\n\n") {
        return bytes.len();
    }
    let unix = memmem::rfind(bytes, b"\n\n").map_or(0, |at| at + 2);
    let rest = &bytes[unix..];
    match memchr::memchr(b'\r', rest) {
        None => unix,
        Some(_) => unix + empty_lines(rest).last().unwrap_or(0),
    }
}

/// Where the empty lines of some bytes end, whatever ends their lines: LF, CR LF or CR. A CR that is the last byte ends a line
/// only if the line before ended in one alone, for else an LF is still to come.
fn empty_lines(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let (mut at, mut is_empty, mut lone) = (0, true, false);
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let length = match &bytes[at..] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [b'\r'] if !lone => return None,
                [b'\r', ..] => 1,
                _ => {
                    is_empty = false;
                    let rest = &bytes[at..];
                    at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    continue;
                }
            };
            lone = bytes[at] == b'\r' && length == 1;
            at += length;
            if std::mem::replace(&mut is_empty, true) {
                return Some(at);
            }
        }
        None
    })
}

/// The events of some bytes that [`Splitter`] gave, each with its empty line.
pub(crate) fn each(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = first_end(rest);
        let (event, more) = rest.split_at(end);
        rest = more;
        Some(event)
    })
}

fn first_end(bytes: &[u8]) -> usize {
    let unix = memmem::find(bytes, b"\n\n").map_or(bytes.len(), |at| at + 2);
    // Looked for only before the other, so that no event is read to the end of all.
    let event = &bytes[..unix];
    match memchr::memchr(b'\r', event) {
        None => unix,
        Some(_) => empty_lines(event).next().unwrap_or(unix),
    }
}

/// What an event is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A JSON object.
    Object,
    /// `[DONE]`.
    Done,
    /// An error of the backend's.
    Error,
    /// A comment, or something without data.
    Silent,
    /// None of these: not what an OpenAI-compatible server says.
    Garbage,
}

/// What an event is.
pub(crate) fn kind(event: &[u8]) -> Kind {
    let Some(data) = data(event) else {
        return match is_silent(event) {
            true => Kind::Silent,
            false => Kind::Garbage,
        };
    };
    match &*data {
        b"" => Kind::Silent,
        b"[DONE]" => Kind::Done,
        data if is_error(data) => Kind::Error,
        data if data.starts_with(b"{") && data.ends_with(b"}") => Kind::Object,
        _ => Kind::Garbage,
    }
}

/// Whether an object begins with an error that is one; some servers say `"error": null` in every event.
fn is_error(data: &[u8]) -> bool {
    let value = || {
        let rest = data.strip_prefix(b"{")?.trim_ascii_start();
        let rest = rest.strip_prefix(b"\"error\"")?.trim_ascii_start();
        Some(rest.strip_prefix(b":")?.trim_ascii_start())
    };
    value().is_some_and(|value| !value.starts_with(b"null"))
}

/// The data of an event: its only line of it, which is all that most servers send, or several with line breaks between.
pub(crate) fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut lines = lines(event).filter_map(|line| match line.strip_prefix(b"data") {
        Some(b"") => Some(&b""[..]),
        Some(rest) => Some(rest.strip_prefix(b":")?.trim_ascii()),
        None => None,
    });
    let first = lines.next()?;
    let mut data = Cow::Borrowed(first);
    for line in lines {
        let data = data.to_mut();
        data.push(b'\n');
        data.extend_from_slice(line);
    }
    Some(data)
}

/// The lines of an event, without the mark that a text may begin with.
fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = event.strip_prefix(BYTE_ORDER_MARK).unwrap_or(event);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        // Of CR LF, the LF is one more line, an empty one.
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(line)
    })
}

fn is_silent(event: &[u8]) -> bool {
    let known: [&[u8]; 4] = [b":", b"event", b"id", b"retry"];
    lines(event).all(|line| line.is_empty() || known.iter().any(|start| line.starts_with(start)))
}

/// Whether a client that has seen this event has seen something of an answer. A role, a ping and an empty piece are nothing
/// that could not be sent again.
pub(crate) fn has_content(event: &[u8]) -> bool {
    let Some(object) = data(event).and_then(|data| serde_json::from_slice(&data).ok()) else {
        return kind(event) != Kind::Silent;
    };
    let object: Value = object;
    match object["choices"].as_array() {
        Some(choices) => choices.iter().any(choice_has_content),
        None => true,
    }
}

fn choice_has_content(choice: &Value) -> bool {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let delta = choice["delta"].as_object();
    let said = delta
        .into_iter()
        .flatten()
        .any(|(name, value)| name != "role" && !is_nothing(value));
    said || ["text", "finish_reason", "token_ids"]
        .into_iter()
        .any(|name| !is_nothing(&choice[name]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "data: {\"a\": 1}\n\n: ping\n\ndata: {\"b\": \"x\"}\r\n\r\nevent: e\ndata: {}\n\ndata: 1\rdata: 2\r\rdata: [DONE]\n\n";

    proptest! {
        #[test]
        fn the_cuts_of_the_network_do_not_matter(cuts in prop::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut splitter = Splitter::default();
            let mut seen = Vec::new();
            for pair in cuts.windows(2) {
                let part = &STREAM[pair[0]..pair[1]];
                let whole = splitter.push(Bytes::from_static(part.as_bytes())).unwrap();
                seen.extend(each(&whole).map(|event| String::from_utf8(event.to_vec()).unwrap()));
            }
            prop_assert!(splitter.is_between());
            prop_assert_eq!(seen.concat(), STREAM);
            prop_assert_eq!(seen.len(), 6);
        }
    }

    #[test]
    fn an_empty_line_is_one_whatever_ends_it() {
        for (text, length) in [
            ("a\r\rb", 3),
            ("a\r\r", 3),
            ("a\n\r", 0),
            ("a\n\rb", 3),
            ("a\r\n\r", 0),
            ("a\r\n\r\n", 5),
            ("a\r\r\nb\n", 4),
            ("a\rb\nc\r\n", 0),
        ] {
            assert_eq!(complete(text.as_bytes()), length, "{text:?}");
        }
    }

    #[test]
    fn lines_of_data_are_one_text() {
        let event = b"event: x\ndata: {\ndata: }\nid: 1\n\n";
        assert_eq!(data(event).as_deref(), Some(&b"{\n}"[..]));
        assert!(matches!(data(b"data: {}\n\n"), Some(Cow::Borrowed(b"{}"))));
        assert_eq!(data(b": ping\n\n"), None);
    }

    #[test]
    fn whole_events_are_not_copied() {
        let bytes = Bytes::from_static(b"data: {}\n\n");
        let whole = Splitter::default().push(bytes.clone()).unwrap();
        assert_eq!(whole.as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn an_event_without_end_is_too_long() {
        let mut splitter = Splitter::default();
        let part = Bytes::from(vec![b'x'; LONGEST / 2]);
        assert!(splitter.push(part.clone()).is_ok());
        assert!(splitter.push(part.clone()).is_ok());
        assert_eq!(splitter.push(part), Err(TooLong));
    }

    #[test]
    fn kinds_are_told_by_the_first_bytes() {
        let cases = [
            ("data: {\"id\":1}\n\n", Kind::Object),
            ("data:{}\r\n\r\n", Kind::Object),
            ("event: x\ndata: {}\n\n", Kind::Object),
            ("data: [DONE]\n\n", Kind::Done),
            ("data: {\"error\": {}}\n\n", Kind::Error),
            ("data: { \"error\" : \"x\"}\n\n", Kind::Error),
            ("data: {\"error\":null,\"id\":1}\n\n", Kind::Object),
            ("\u{feff}data: {\"error\":{}}\n\n", Kind::Error),
            ("data: {\"error\":\ndata: {}}\n\n", Kind::Error),
            ("data: {\r\ndata: \"id\":1}\r\n\r\n", Kind::Object),
            ("data: [DONE]\r\r", Kind::Done),
            ("data\n\n", Kind::Silent),
            (": ping\n\n", Kind::Silent),
            ("\n\n", Kind::Silent),
            ("retry: 5\nid: 7\n\n", Kind::Silent),
            ("data: {\"id\":\n\n", Kind::Garbage),
            ("<html>\n\n", Kind::Garbage),
            ("data: DONE\n\n", Kind::Garbage),
        ];
        for (event, expected) in cases {
            assert_eq!(kind(event.as_bytes()), expected, "{event}");
        }
    }

    #[test]
    fn a_role_and_a_ping_are_no_content() {
        let nothing = [
            ": ping\n\n",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n",
            "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":null}]}\n\n",
            "data: {\"choices\":[]}\n\n",
        ];
        for event in nothing {
            assert!(!has_content(event.as_bytes()), "{event}");
        }
        let something = [
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{}]}}]}\n\n",
            "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"token_ids\":[5]}]}\n\n",
            "data: {\"type\":\"response.created\"}\n\n",
            "data: [DONE]\n\n",
        ];
        for event in something {
            assert!(has_content(event.as_bytes()), "{event}");
        }
    }
}
