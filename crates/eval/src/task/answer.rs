//! The answer in what a model says.

use serde::{Deserialize, Serialize};

/// Where the answer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In `<solution>`, or if there is no such tag, everything that is not thought.
    #[default]
    Anywhere,
    /// Only in `<solution>`.
    Solution,
    /// Everything that is not thought.
    Whole,
}

/// The answer in a text, without the blanks around it; none if there is nothing in its place.
///
/// Thoughts are left out: everything up to the last `</think>`, and an open `<think>`. Of several solutions the last closed one
/// counts, or else the last open one, which ends with the text: stop strings take the closing tag away.
#[must_use]
pub fn answer_in(text: &str, place: Place) -> Option<String> {
    let said = without_thoughts(text);
    let solution = || last_solution(said);
    let answer = match place {
        Place::Solution => solution()?,
        Place::Whole => said,
        Place::Anywhere => solution().unwrap_or(said),
    };
    let answer = answer.trim();
    (!answer.is_empty()).then(|| answer.to_owned())
}

/// What is said and not thought.
pub(crate) fn without_thoughts(text: &str) -> &str {
    let said = match text.rfind("</think>") {
        Some(at) => &text[at + "</think>".len()..],
        None => text,
    };
    said.split("<think>").next().unwrap_or_default()
}

fn last_solution(text: &str) -> Option<&str> {
    const OPEN: &str = "<solution>";
    const CLOSE: &str = "</solution>";
    let end = text.rfind(CLOSE);
    let before = &text[..end.unwrap_or(text.len())];
    let start = before.rfind(OPEN)? + OPEN.len();
    Some(&before[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anywhere(text: &str) -> Option<String> {
        answer_in(text, Place::Anywhere)
    }

    #[test]
    fn the_last_closed_solution_counts() {
        let text = "<solution>A</solution> no: <solution> B </solution> so <solution>C";
        assert_eq!(anywhere(text).as_deref(), Some("B"));
        assert_eq!(anywhere("it is <solution>D\n").as_deref(), Some("D"));
    }

    #[test]
    fn thoughts_are_no_answer() {
        let text = "<think>maybe <solution>A</solution></think>\n\nB";
        assert_eq!(anywhere(text).as_deref(), Some("B"));
        assert_eq!(anywhere("<think>on and on <solution>A</solution>"), None);
        assert_eq!(anywhere("thoughts</think> C").as_deref(), Some("C"));
    }

    #[test]
    fn nothing_in_the_place_is_no_answer() {
        assert_eq!(anywhere("<solution> </solution>"), None);
        assert_eq!(answer_in("B", Place::Solution), None);
        assert_eq!(answer_in("B ", Place::Whole).as_deref(), Some("B"));
        assert_eq!(anywhere(""), None);
    }
}
