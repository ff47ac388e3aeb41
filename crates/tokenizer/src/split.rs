//! How a text is cut into pieces before BPE merges within each: the `pre_tokenizer` of `tokenizer.json`.
//!
//! The patterns of byte-level tokenizers (GPT-2, Qwen, Llama 3, DeepSeek) end in `|\s+(?!\S)|\s+`: a run of white space, but
//! without its last character if more text follows. This look-ahead is why the `tokenizers` library needs a backtracking
//! engine, whose stack or step limit a long run of spaces exceeds; its pure Rust engine then silently leaves the rest of
//! the text uncut. Here the tail is a rule ([`Pattern::end_of`]) and the rest a regular expression in the strict sense, so cutting
//! takes time linear in the text, whatever the text.
//! `docs/decisions/0006-split-without-backtracking.md` has the argument.

use regex_automata::{Input, meta::Regex};
use serde_json::Value;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::pattern::Pattern as Cut;
use tokenizers::{Offsets, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

/// What the patterns end in.
const TAIL: &str = r"|\s+(?!\S)|\s+";

/// The pattern that a `ByteLevel` pre-tokenizer with `use_regex` means, without its tail.
const BYTE_LEVEL: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+";

/// A part of a `pre_tokenizer` that is not supported: the field, what is, and what is there.
pub(crate) struct Unsupported {
    pub(crate) field: String,
    pub(crate) expected: &'static str,
    pub(crate) found: String,
}

/// The cuts of a text, one after the other, and then the change to the byte-level alphabet.
#[derive(Debug)]
pub(crate) struct Splits(Vec<Pattern>);

impl Splits {
    /// Reads the field `pre_tokenizer`: `ByteLevel`, or a `Sequence` of `Split`s that ends in `ByteLevel`.
    pub(crate) fn parse(field: &Value) -> Result<Self, Unsupported> {
        let single = std::slice::from_ref(field);
        let parts = match kind(field) {
            "Sequence" => field["pretokenizers"]
                .as_array()
                .map_or(single, Vec::as_slice),
            _ => single,
        };
        let path = |at: usize| match kind(field) {
            "Sequence" => format!("pre_tokenizer.pretokenizers[{at}]"),
            _ => "pre_tokenizer".to_owned(),
        };
        let (last, splits) = parts.split_last().unwrap_or((field, &[]));
        let mut patterns = Vec::new();
        for (at, part) in splits.iter().enumerate() {
            patterns.push(split_part(part, &path(at))?);
        }
        patterns.extend(byte_level_part(last, &path(splits.len()))?);
        Ok(Self(patterns))
    }
}

fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or("no type")
}

/// The pattern of a `Split`, whose matches and the text between them become pieces.
fn split_part(part: &Value, path: &str) -> Result<Pattern, Unsupported> {
    let unsupported = |field: &str, expected, found: &Value| Unsupported {
        field: format!("{path}.{field}"),
        expected,
        found: found.to_string(),
    };
    if kind(part) != "Split" {
        return Err(unsupported(
            "type",
            "Split, and ByteLevel at the end",
            &part["type"],
        ));
    }
    if part["behavior"] != "Isolated" {
        return Err(unsupported("behavior", "Isolated", &part["behavior"]));
    }
    let source = match (&part["pattern"]["Regex"], &part["pattern"]["String"]) {
        (Value::String(regex), _) => regex.clone(),
        (_, Value::String(text)) => regex_syntax_escape(text),
        _ => return Err(unsupported("pattern", "Regex or String", &part["pattern"])),
    };
    Pattern::new(&source).ok_or_else(|| {
        let expected = r"a regular expression without look-around and back-references but for `|\s+(?!\S)|\s+` at its end";
        unsupported("pattern.Regex", expected, &Value::String(source))
    })
}

fn regex_syntax_escape(text: &str) -> String {
    let hex = |c: char| format!(r"\x{{{:x}}}", u32::from(c));
    text.chars().map(hex).collect()
}

/// The pattern of a `ByteLevel`, if it cuts too.
fn byte_level_part(part: &Value, path: &str) -> Result<Option<Pattern>, Unsupported> {
    if kind(part) != "ByteLevel" {
        return Err(Unsupported {
            field: format!("{path}.type"),
            expected: "ByteLevel (byte-level BPE, as Qwen and Llama 3 have it)",
            found: part["type"].to_string(),
        });
    }
    if part["add_prefix_space"] != false {
        return Err(Unsupported {
            field: format!("{path}.add_prefix_space"),
            expected: "false",
            found: part["add_prefix_space"].to_string(),
        });
    }
    let cuts = part["use_regex"] != false;
    Ok(cuts
        .then(|| Pattern::new(&format!("{BYTE_LEVEL}{TAIL}")))
        .flatten())
}

impl PreTokenizer for Splits {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        for pattern in &self.0 {
            text.split(|_, piece| piece.split(pattern, SplitDelimiterBehavior::Isolated))?;
        }
        ByteLevel::new(false, false, false).pre_tokenize(text)
    }
}

/// A pattern without look-around, and whether it had the tail.
#[derive(Debug)]
struct Pattern {
    /// Pattern 0 is all before the tail; pattern 1, if there is one, is `\s+`. The first that matches at a place wins.
    regex: Regex,
}

impl Pattern {
    /// `None` if it is no regular expression in the strict sense.
    fn new(source: &str) -> Option<Self> {
        let regex = match source.strip_suffix(TAIL) {
            Some(head) => Regex::new_many(&[head, r"\s+"]),
            None => Regex::new(source),
        };
        regex.ok().map(|regex| Self { regex })
    }

    /// Where a match of the tail really ends: before its last character, if it has another and text follows.
    fn end_of(text: &str, start: usize, end: usize) -> usize {
        let last = text[start..end]
            .chars()
            .next_back()
            .map_or(0, char::len_utf8);
        if end < text.len() && end - last > start {
            end - last
        } else {
            end
        }
    }
}

impl Cut for &Pattern {
    fn find_matches(&self, text: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        let mut pieces = Vec::with_capacity(text.len() / 4 + 1);
        let mut done = 0;
        let mut at = 0;
        while at < text.len() {
            let Some(found) = self.regex.search(&Input::new(text).range(at..)) else {
                break;
            };
            let (start, mut end) = (found.start(), found.end());
            if found.pattern().as_usize() == 1 {
                end = Pattern::end_of(text, start, end);
            }
            if end == start {
                // A pattern that matches nothing cuts nothing.
                at = next_character(text, end);
                continue;
            }
            if done < start {
                pieces.push(((done, start), false));
            }
            pieces.push(((start, end), true));
            (done, at) = (end, end);
        }
        if done < text.len() || pieces.is_empty() {
            pieces.push(((done, text.len()), false));
        }
        Ok(pieces)
    }
}

fn next_character(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(1, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Letters, single digits, marks, new lines, white space.
    const LIKE_QWEN: &str =
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    fn pieces<'t>(pattern: &Pattern, text: &'t str) -> Vec<&'t str> {
        let found = pattern.find_matches(text).expect("cuts");
        found
            .into_iter()
            .map(|((start, end), _)| &text[start..end])
            .collect()
    }

    #[test]
    fn a_run_of_spaces_leaves_its_last_one_to_the_word() {
        let pattern = Pattern::new(LIKE_QWEN).expect("a regular expression");
        assert_eq!(pieces(&pattern, "a   b"), ["a", "  ", " b"]);
        assert_eq!(pieces(&pattern, "a   "), ["a", "   "]);
        assert_eq!(
            pieces(&pattern, "a \u{3000}\u{3000}12"),
            ["a", " \u{3000}", "\u{3000}", "1", "2"]
        );
        assert_eq!(pieces(&pattern, "a \n  b"), ["a", " \n", " ", " b"]);
        assert_eq!(pieces(&pattern, ""), [""]);
    }

    /// The tail as a backtracking engine sees it, character by character.
    fn by_the_letter(text: &str) -> Vec<&str> {
        let head = Regex::new(LIKE_QWEN.strip_suffix(TAIL).expect("a tail")).expect("compiles");
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let anchored = Input::new(text)
                .range(at..)
                .anchored(regex_automata::Anchored::Yes);
            let run = text[at..]
                .find(|c: char| !c.is_whitespace())
                .unwrap_or(text.len() - at);
            let end = if let Some(found) = head.search(&anchored) {
                found.end()
            } else if at + run == text.len() {
                text.len()
            } else {
                let last = text[at..at + run]
                    .chars()
                    .next_back()
                    .map_or(0, char::len_utf8);
                if run > last {
                    at + run - last
                } else {
                    at + run
                }
            };
            pieces.push(&text[at..end]);
            at = end;
        }
        pieces
    }

    proptest! {
        #[test]
        fn the_tail_is_what_backtracking_finds(text in r"[a1!' \t\n\r\u{85}\u{a0}\u{3000}é]{1,40}") {
            let pattern = Pattern::new(LIKE_QWEN).expect("a regular expression");
            prop_assert_eq!(pieces(&pattern, &text), by_the_letter(&text));
        }

        #[test]
        fn pieces_make_the_text(text in any::<String>(), source in "[a-c|*?()]{0,6}") {
            if let Some(pattern) = Pattern::new(&source) {
                prop_assert_eq!(pieces(&pattern, &text).concat(), text);
            }
        }
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let refused = |field: Value| {
            let Unsupported { field, found, .. } = Splits::parse(&field).expect_err("refused");
            (field, found)
        };
        let metaspace = json!({"type": "Metaspace", "replacement": "▁"});
        assert_eq!(
            refused(metaspace),
            ("pre_tokenizer.type".into(), "\"Metaspace\"".into())
        );
        assert_eq!(
            refused(Value::Null),
            ("pre_tokenizer.type".into(), "null".into())
        );
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        let sequence = |split: Value| json!({"type": "Sequence", "pretokenizers": [split, bytes]});
        let split = |regex: &str, behavior: &str| {
            sequence(
                json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": false}),
            )
        };
        assert_eq!(
            refused(split("(?<=a)b", "Isolated")).0,
            "pre_tokenizer.pretokenizers[0].pattern.Regex"
        );
        assert_eq!(
            refused(split("a", "Removed")).0,
            "pre_tokenizer.pretokenizers[0].behavior"
        );
        assert_eq!(
            refused(sequence(json!({"type": "Digits"}))).0,
            "pre_tokenizer.pretokenizers[0].type"
        );
        assert!(Splits::parse(&split(LIKE_QWEN, "Isolated")).is_ok());
    }
}
