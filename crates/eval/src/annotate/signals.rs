//! What stands in a text: the first step.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use xgraft_dataset::Class;

use super::{Entry, Item, Key};

/// Where the solution was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Solution {
    /// Between tags.
    Tag,
    /// After a tag that is not closed.
    OpenTag,
    /// Under a heading that says so.
    Heading,
    /// In or after brackets that say so.
    Brackets,
    /// After the word and a colon.
    Word,
    /// Nowhere: the last 200 words of the text.
    NotFound,
}

/// What the plain rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Triage {
    /// The solution is the reference answer.
    Right,
    /// The solution is one other word.
    Wrong,
    /// Somebody has to read it.
    Unclear,
    /// There is nothing to read: the attempt met a limit, or the endpoint failed.
    Failed,
}

/// What was found in the text of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Which attempt.
    #[serde(flatten)]
    pub key: Key,
    /// The solution.
    pub solution: String,
    /// Where it was.
    pub found: Solution,
    /// How often the reference stands in the last 200 words as a word of its own; none for a single character, which says nothing.
    pub reference_in_last_words: Option<u64>,
    /// What other phrases name as the answer, and how often it stands in the last 200 words: `is_or_has`, `final_answer`,
    /// `conclusion`, `emerges`.
    pub candidates: BTreeMap<String, (String, u64)>,
    /// What the plain rules say.
    pub triage: Triage,
}

impl Entry for Signals {
    const SCHEMA: &'static str = "xgraft.signals/1";
}

/// Reads the text of an attempt.
#[must_use]
pub fn signals(item: &Item) -> Signals {
    let (found, solution) = solution(&item.response);
    let last = last_words(&item.response);
    let reference = item.reference.trim();
    let counted = reference.chars().count() > 1;
    let candidates = candidates(&item.response).into_iter();
    Signals {
        key: item.key.clone(),
        triage: triage(item.class, found, &solution, reference),
        found,
        reference_in_last_words: counted.then(|| occurrences(&last, reference)),
        candidates: candidates
            .map(|(name, text)| {
                let count = occurrences(&last, &text);
                (name.to_owned(), (text, count))
            })
            .collect(),
        solution,
    }
}

const LAST_WORDS: usize = 200;
/// An open tag is taken for the solution only when little follows it.
const SHORT: usize = 100;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of ours")
}

static CLOSED: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?is)<solution>(.*?)</solution>"));
static HEADING: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?im)^#+[ \t]*(?:final )?solution[ \t:*]*$"));
static NEXT_HEADING: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^#+[ \t]"));
static BRACKETS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?is)\[solution\](.*?)(?:\[/solution\]|\z)"));
static WORD: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?im)^[ \t*]*solution[ \t*]*:[ \t*]*(\S[^\n]*)$"));
static IS_OR_HAS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\*\*([^*\n]+)\*\*[ \t]+(?:is|has)\b"));
static FINAL_ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)(?:\*\*)?(?:final[ \t]+)?answer[ \t]*(?:\*\*)?:[ \t]*(?:\*\*)?[ \t]*([^\n*]+)")
});
static CONCLUSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?is)^.*##[ \t]*conclusion.*?\*\*([^*\n]+)\*\*"));
static EMERGES: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:\*\*([^*\n]+)\*\*|(\S+))[ \t]+emerges\b"));

/// The solution and where it was.
fn solution(text: &str) -> (Solution, String) {
    let (found, solution) = tagged(text)
        .or_else(|| under_heading(text))
        .or_else(|| last(&BRACKETS, text).map(|s| (Solution::Brackets, s)))
        .or_else(|| last(&WORD, text).map(|s| (Solution::Word, s)))
        .unwrap_or_else(|| (Solution::NotFound, last_words(text)));
    (found, solution.trim().to_owned())
}

fn tagged(text: &str) -> Option<(Solution, String)> {
    if let Some(solution) = last(&CLOSED, text) {
        return Some((Solution::Tag, solution));
    }
    let lower = text.to_ascii_lowercase();
    let starts = lower
        .match_indices("<solution>")
        .map(|(at, tag)| at + tag.len());
    let open: Vec<&str> = starts
        .map(|at| {
            let rest = &text[at..];
            let end = lower[at..].find("<solution>").unwrap_or(rest.len());
            rest[..end].trim()
        })
        .collect();
    let short = open.iter().filter(|rest| rest.len() <= SHORT);
    let shortest = short.min_by_key(|rest| rest.len());
    shortest
        .or(open.last())
        .map(|rest| (Solution::OpenTag, (*rest).to_owned()))
}

fn under_heading(text: &str) -> Option<(Solution, String)> {
    let heading = HEADING.find_iter(text).last()?;
    let rest = &text[heading.end()..];
    let end = NEXT_HEADING
        .find(rest)
        .map_or(rest.len(), |next| next.start());
    let under = rest[..end].trim();
    (!under.is_empty()).then(|| (Solution::Heading, under.to_owned()))
}

/// The first group of the last match.
fn last(pattern: &Regex, text: &str) -> Option<String> {
    let found = pattern.captures_iter(text).last()?;
    let group = found.iter().skip(1).flatten().next()?;
    Some(group.as_str().trim().to_owned()).filter(|text| !text.is_empty())
}

fn last_words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words[words.len().saturating_sub(LAST_WORDS)..].join(" ")
}

/// What other phrases name.
fn candidates(text: &str) -> Vec<(&'static str, String)> {
    let all = [
        ("is_or_has", most_frequent(&IS_OR_HAS, text)),
        ("final_answer", last(&FINAL_ANSWER, text)),
        ("conclusion", last(&CONCLUSION, text)),
        ("emerges", last(&EMERGES, text)),
    ];
    let found = all.into_iter();
    found
        .filter_map(|(name, text)| Some((name, text?)))
        .collect()
}

/// The match that stands there most often; of equals one with parentheses, then the first.
fn most_frequent(pattern: &Regex, text: &str) -> Option<String> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for found in pattern.captures_iter(text) {
        let name = found[1].trim().to_owned();
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let best = counts
        .iter()
        .rev()
        .max_by_key(|(name, count)| (*count, name.contains('(')))?;
    Some(best.0.clone())
}

/// How often `word` stands in `text` with no letter, digit or underscore beside it, in any case.
fn occurrences(text: &str, word: &str) -> u64 {
    if word.is_empty() {
        return 0;
    }
    let (text, word) = (text.to_lowercase(), word.to_lowercase());
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let alone = |at: &usize| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !part_of_word(before) && !part_of_word(after)
    };
    let found = text.match_indices(&word).map(|(at, _)| at);
    found.filter(alone).count() as u64
}

/// The plain cases. Marks around a single word (`"C."`, `**C**`) do not count, in which it differs from the published rule.
fn triage(class: Class, found: Solution, solution: &str, reference: &str) -> Triage {
    if matches!(class, Class::Overflow | Class::Infrastructure) {
        return Triage::Failed;
    }
    let marks = |c: char| c.is_whitespace() || ".,;:!*\"'`".contains(c);
    let word = solution.trim_matches(marks);
    if found == Solution::NotFound {
        return Triage::Unclear;
    }
    if word.to_lowercase() == reference.trim_matches(marks).to_lowercase() {
        return Triage::Right;
    }
    let single = !word.contains(|c: char| c.is_whitespace() || "()[]{}".contains(c));
    if single && !word.is_empty() {
        Triage::Wrong
    } else {
        Triage::Unclear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(response: &str, reference: &str) -> Item {
        Item {
            key: Key {
                arm: "a".to_owned(),
                run: "0".to_owned(),
                question: "q".to_owned(),
            },
            task: "t".to_owned(),
            prompt: "?".to_owned(),
            reference: reference.to_owned(),
            response: response.to_owned(),
            answer: None,
            class: Class::Wrong,
        }
    }

    #[test]
    fn solutions_are_found_in_the_order_of_their_forms() {
        for (text, found, expected) in [
            (
                "<solution>A</solution> <Solution> B </SOLUTION>",
                Solution::Tag,
                "B",
            ),
            ("so <solution> BRCA1", Solution::OpenTag, "BRCA1"),
            ("<solution>x y <solution>z", Solution::OpenTag, "z"),
            (
                "text\n## Solution\nBRCA2\n## Notes\nno",
                Solution::Heading,
                "BRCA2",
            ),
            ("[Solution] C [/Solution] bye", Solution::Brackets, "C"),
            ("**Solution:** rs12\nbye", Solution::Word, "rs12"),
            ("no form at all", Solution::NotFound, "no form at all"),
        ] {
            assert_eq!(solution(text), (found, expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn without_any_form_the_last_two_hundred_words_are_taken() {
        let words: Vec<String> = (0..500).map(|i| i.to_string()).collect();
        let (found, solution) = solution(&words.join(" "));
        assert_eq!(found, Solution::NotFound);
        assert!(solution.starts_with("300 301 ") && solution.ends_with(" 499"));
    }

    #[test]
    fn the_plain_cases_are_settled_and_the_rest_is_left() {
        for (response, reference, expected) in [
            ("<solution>brca1</solution>", "BRCA1", Triage::Right),
            ("<solution>C.</solution>", "C", Triage::Right),
            ("<solution>TP53</solution>", "BRCA1", Triage::Wrong),
            (
                "<solution>{'causal_gene': ['A']}</solution>",
                "A",
                Triage::Unclear,
            ),
            (
                "<solution>the gene BRCA1</solution>",
                "BRCA1",
                Triage::Unclear,
            ),
            ("BRCA1", "BRCA1", Triage::Unclear),
        ] {
            assert_eq!(
                signals(&item(response, reference)).triage,
                expected,
                "{response}"
            );
        }
        let failed = Item {
            class: Class::Overflow,
            ..item("<solution>A</solution>", "A")
        };
        assert_eq!(signals(&failed).triage, Triage::Failed);
    }

    #[test]
    fn candidates_are_what_the_phrases_name() {
        let text = "**APOE** is one. **TP53 (p53)** has more. **Final Answer:** MYC\n\
                    ## Conclusion\nWe think **EGFR** matters; **KRAS** emerges. EGFR EGFR1";
        let found = signals(&item(text, "EGFR"));
        let names: Vec<_> = found
            .candidates
            .iter()
            .map(|(k, (v, _))| (&**k, &**v))
            .collect();
        let expected = [
            ("conclusion", "EGFR"),
            ("emerges", "KRAS"),
            ("final_answer", "MYC"),
            ("is_or_has", "TP53 (p53)"),
        ];
        assert_eq!(names, expected);
        assert_eq!(found.reference_in_last_words, Some(2));
        assert_eq!(signals(&item("C C", "C")).reference_in_last_words, None);
    }
}
