//! What is chat and nothing else: messages to a prompt, and a text to reasoning, content and calls.

pub(crate) mod messages;
mod reasoning;
mod scan;
mod split;
mod tools;

pub(crate) use split::{Calls, Delta, Opening, Split, ToolDelta};

/// Splits a text whole and in pieces of one character; both must give the same.
pub(crate) fn fuzz(text: &str) {
    let calls = |several, bound| Some(Calls { several, bound });
    for tools in [
        None,
        calls(true, false),
        calls(false, false),
        calls(true, true),
    ] {
        let mut whole = Split::new(Opening::Open, tools);
        let mut expected = whole.push(text, false);
        expected.append(whole.push("", true));
        let mut split = Split::new(Opening::Open, tools);
        let mut found = Delta::default();
        for piece in text.split_inclusive(|_| true) {
            found.append(split.push(piece, false));
        }
        found.append(split.push("", true));
        assert_eq!(found, expected, "a text in pieces is split like the whole");
    }
}
