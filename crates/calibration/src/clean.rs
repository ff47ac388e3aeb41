//! What the published harness put between the lines, taken out again.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem;
use regex::Regex;
use xgraft_dataset::{Message, Role};

static MARKER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\[[0-9]+\]\s*(USER|ASSISTANT|SYSTEM|ENVIRONMENT):\s*").expect("a pattern of ours")
});
static BANNER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)={3,}\s*ai message\s*={3,}").expect("a pattern of ours"));

/// The text without role markers, `DEBUG:` to the end of the line, banners, and rules of ten and more `=` or `-`.
/// Of several empty lines one is left, and none at the ends.
#[must_use]
pub fn clean(text: &str) -> String {
    let text = without(&MARKER, text, b"]");
    let text = without(&BANNER, &text, b"===");
    let mut out = String::with_capacity(text.len());
    let mut breaks = 0;
    let mut rest = &*text;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest.as_bytes());
        let (line, after) = match end {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, ""),
        };
        let kept = match memmem::find(line.as_bytes(), b"DEBUG:") {
            Some(at) => &line[..at],
            None if is_rule(line) => "",
            None => line,
        };
        if breaks < 2 || !kept.is_empty() {
            out.push_str(kept);
        }
        breaks = if kept.is_empty() { breaks } else { 0 };
        if end.is_some() && breaks < 2 {
            out.push('\n');
            breaks += 1;
        }
        rest = after;
    }
    let trimmed = out.trim();
    if trimmed.len() == out.len() {
        out
    } else {
        trimmed.to_owned()
    }
}

/// `text` without the matches of `pattern`, which all have `part` in them.
fn without<'a>(pattern: &Regex, text: &'a str, part: &[u8]) -> Cow<'a, str> {
    match memmem::find(text.as_bytes(), part) {
        Some(_) => pattern.replace_all(text, ""),
        None => Cow::Borrowed(text),
    }
}

fn is_rule(line: &str) -> bool {
    let line = line.trim_ascii();
    line.len() >= 10 && line.bytes().all(|c| c == b'=' || c == b'-')
}

/// The conversation that the published harness wrote as one text, each turn cleaned; empty ones are left out.
///
/// A turn begins at a marker at the start of a line. What is before the first marker is the assistant's, as is a text without any.
#[must_use]
pub fn turns(text: &str) -> Vec<Message> {
    let mut turns = Vec::new();
    let mut push = |role: Role, text: &str| {
        let text = clean(text);
        if !text.is_empty() {
            turns.push(Message::new(role, text));
        }
    };
    let mut role = Role::Assistant;
    let mut from = 0;
    for found in MARKER.captures_iter(text) {
        let whole = found.get_match();
        let before = text[..whole.start()].trim_end_matches([' ', '\t']);
        if !(before.is_empty() || before.ends_with('\n')) {
            continue;
        }
        push(role, &text[from..whole.start()]);
        from = whole.end();
        role = match &found[1] {
            "USER" => Role::User,
            "SYSTEM" => Role::System,
            "ENVIRONMENT" => Role::Tool,
            _ => Role::Assistant,
        };
    }
    push(role, &text[from..]);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_banners_and_rules_go() {
        for (dirty, expected) in [
            ("[3]  USER: hello", "hello"),
            ("a [12] ASSISTANT:\n\n b", "a b"),
            (
                "keep [12] and [x] USER: this",
                "keep [12] and [x] USER: this",
            ),
            ("a\nDEBUG: noise\nb", "a\n\nb"),
            ("a DEBUG: noise", "a"),
            ("==== Ai Message ====\nx", "x"),
            (
                "=================== AI MESSAGE ====================\nx",
                "x",
            ),
            ("a\n------------------\nb", "a\n\nb"),
            ("a\n---------\nb", "a\n---------\nb"),
            ("a\n\n\n\n\nb", "a\n\nb"),
            ("  \n a \n\n", "a"),
            ("", ""),
        ] {
            assert_eq!(clean(dirty), expected, "{dirty:?}");
        }
    }

    #[test]
    fn what_is_clean_stays_as_it_is() {
        let text = "Table\n| a | b |\n|---|---|\n\nx == y, [1] is a citation";
        assert_eq!(clean(text), text);
    }

    #[test]
    fn one_text_becomes_its_turns() {
        let text = "[1] USER:\nWhich [2] ASSISTANT: gene?\n\n[2] ASSISTANT:\nIt is A.\n\n[3] ENVIRONMENT:\n\n[4] ASSISTANT:\nB";
        let seen: Vec<_> = turns(text)
            .into_iter()
            .map(|m| (m.role, m.content))
            .collect();
        let expected = [
            (Role::User, "Which gene?".to_owned()),
            (Role::Assistant, "It is A.".to_owned()),
            (Role::Assistant, "B".to_owned()),
        ];
        assert_eq!(seen, expected);
        assert_eq!(turns("no marker")[0].role, Role::Assistant);
    }
}
