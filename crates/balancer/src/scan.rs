//! The members of a JSON object, found without building anything.

use std::ops::Range;

use memchr::memchr2;

/// Deeper than any parser of a backend goes.
const DEEPEST: usize = 512;

/// One member of the outermost object, by where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The key between its quotes, escapes and all.
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// The members of the object that `body` is, one after the other; ends early where it is no JSON. Whether a value is JSON is
/// looked at no closer than is needed to find its end.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    body: &'a [u8],
    at: usize,
    state: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    First,
    More,
    /// The object ended here, with nothing but white space behind it.
    Closed(usize),
    Broken,
}

impl<'a> Members<'a> {
    pub(crate) fn of(body: &'a [u8]) -> Self {
        let at = space(body, 0);
        let (at, state) = match body.get(at) {
            Some(b'{') => (at + 1, Next::First),
            _ => (at, Next::Broken),
        };
        Self { body, at, state }
    }

    /// After the last member: where the closing brace is, if all was as it should be.
    pub(crate) fn end(&self) -> Option<usize> {
        match self.state {
            Next::Closed(at) => Some(at),
            _ => None,
        }
    }

    fn step(&mut self) -> Option<Member> {
        let body = self.body;
        let mut at = space(body, self.at);
        if body.get(at) == Some(&b'}') {
            let rest = space(body, at + 1);
            if rest == body.len() {
                self.state = Next::Closed(at);
            }
            return None;
        }
        if self.state == Next::More {
            at = space(body, expect(body, at, b',')?);
        }
        let key_end = string(body, at)?;
        let key = at + 1..key_end - 1;
        at = space(body, expect(body, space(body, key_end), b':')?);
        let end = value(body, at)?;
        self.at = end;
        Some(Member {
            key,
            value: at..end,
        })
    }
}

impl Iterator for Members<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        if !matches!(self.state, Next::First | Next::More) {
            return None;
        }
        let before = self.state;
        let member = self.step();
        self.state = match (&member, self.state) {
            (Some(_), _) => Next::More,
            (None, Next::Closed(at)) => Next::Closed(at),
            (None, _) => Next::Broken,
        };
        debug_assert!(before != self.state || before == Next::More);
        member
    }
}

/// The text of a JSON string with its quotes.
pub(crate) fn text(value: &[u8]) -> Option<Box<str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice(value).ok();
    }
    Some(std::str::from_utf8(inner).ok()?.into())
}

/// Whether a value is as good as absent.
pub(crate) fn is_null(value: &[u8]) -> bool {
    value == b"null"
}

fn space(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    let blank = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    at + blank.count()
}

fn expect(body: &[u8], at: usize, byte: u8) -> Option<usize> {
    (body.get(at) == Some(&byte)).then_some(at + 1)
}

/// The end of the string that starts at `at`.
fn string(body: &[u8], at: usize) -> Option<usize> {
    let mut at = expect(body, at, b'"')?;
    loop {
        let found = at + memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[found] == b'"' {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// The end of the value that starts at `at`.
fn value(body: &[u8], at: usize) -> Option<usize> {
    match body.get(at)? {
        b'"' => string(body, at),
        b'{' | b'[' => nested(body, at),
        b't' => word(body, at, b"true"),
        b'f' => word(body, at, b"false"),
        b'n' => word(body, at, b"null"),
        b'-' | b'0'..=b'9' => {
            let number =
                |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
            Some(at + body[at..].iter().take_while(number).count())
        }
        _ => None,
    }
}

fn word(body: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    body[at..].starts_with(word).then_some(at + word.len())
}

/// The end of the object or list that starts at `at`.
fn nested(body: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match body.get(at)? {
            b'"' => {
                at = string(body, at)?;
                continue;
            }
            b'{' | b'[' if depth == DEEPEST => return None,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn members(text: &str) -> Option<Vec<(String, String)>> {
        let mut members = Members::of(text.as_bytes());
        let all = members
            .by_ref()
            .map(|member| (text[member.key].to_owned(), text[member.value].to_owned()))
            .collect();
        members.end().map(|_| all)
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-4096_i32..4096).prop_map(|n| Value::from(f64::from(n) / 64.0)),
            "[\\x00-\\x7f\"\\\\{}\\[\\]é]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_members_are_those_that_a_parser_finds(
            object in prop::collection::btree_map("[a-z\"\\\\]{0,4}", json(), 0..6),
            pretty in any::<bool>(),
        ) {
            let object = Value::Object(object.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() };
            let found = members(&text).unwrap().into_iter().map(|(key, value)| {
                let key: String = serde_json::from_str(&format!("\"{key}\"")).unwrap();
                (key, serde_json::from_str::<Value>(&value).unwrap())
            });
            prop_assert_eq!(Value::Object(found.collect::<Map<_, _>>()), object);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let count = Members::of(&bytes).count();
            prop_assert!(count <= bytes.len());
        }

        #[test]
        fn no_cut_object_is_taken_for_a_whole_one(cut in 0_usize..44) {
            let text = r#"{"a": [1, "}"], "b": {"c": "\""}, "d": null}"#;
            prop_assert!(text.len() == 44 && members(text).is_some());
            prop_assert!(members(&text[..cut]).is_none());
        }
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in [
            "",
            "[]",
            "null",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}x",
            "{} {}",
            "{\"a\":1 \"b\":2}",
        ] {
            assert_eq!(members(text), None, "{text}");
        }
        assert_eq!(members(" {} ").map(|all| all.len()), Some(0));
    }

    #[test]
    fn depth_has_an_end() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert_eq!(members(&deep), None);
    }

    #[test]
    fn a_text_is_unescaped() {
        assert_eq!(text(br#""a\u00e9\"b""#).as_deref(), Some("aé\"b"));
        assert_eq!(text("\"é\"".as_bytes()).as_deref(), Some("é"));
        assert_eq!(text(b"7"), None);
        assert_eq!(text(b"\"\xff\""), None);
    }
}
