//! Whether a text has anything of the evaluation set in it.

use std::collections::{HashMap, HashSet};

use xgraft_dataset::Question;

use crate::minhash::mix;

/// What the questions of an evaluation set look like.
///
/// A text leaks when it belongs to one of the questions, or has a run of `length` words that stands in one question and in no
/// other: runs that several questions share are the wording of their task, not the question.
#[derive(Debug)]
pub struct Leaks {
    length: usize,
    ids: HashSet<String>,
    runs: HashMap<u64, u32>,
    names: Vec<String>,
}

/// How a text leaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leak {
    /// It is of a question of the evaluation set.
    Question,
    /// It has a run of words of this question.
    Words(String),
}

impl Leaks {
    /// # Panics
    /// When a run has no word.
    #[must_use]
    pub fn new(questions: &[Question], length: usize) -> Self {
        assert!(length > 0, "runs of at least one word");
        let mut owner: HashMap<u64, Option<u32>> = HashMap::new();
        for (index, question) in questions.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            for run in runs(&question.prompt, length) {
                let same = owner.entry(run).or_insert(Some(index));
                if *same != Some(index) {
                    *same = None;
                }
            }
        }
        let own = owner.into_iter();
        Self {
            length,
            ids: questions
                .iter()
                .map(|question| question.id.clone())
                .collect(),
            runs: own.filter_map(|(run, of)| Some((run, of?))).collect(),
            names: questions
                .iter()
                .map(|question| question.id.clone())
                .collect(),
        }
    }

    /// How the text of an attempt at `question` leaks, if it does.
    pub(crate) fn find<'a>(
        &self,
        question: &str,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Option<Leak> {
        if self.ids.contains(question) {
            return Some(Leak::Question);
        }
        texts.into_iter().find_map(|text| {
            let found = runs(text, self.length).find_map(|run| self.runs.get(&run))?;
            Some(Leak::Words(self.names[*found as usize].clone()))
        })
    }
}

/// A number for every run of `length` words.
fn runs(text: &str, length: usize) -> impl Iterator<Item = u64> {
    let all: Vec<u64> = words(text).collect();
    let count = (all.len() + 1).saturating_sub(length);
    (0..count).map(move |at| {
        let run = &all[at..at + length];
        run.iter()
            .fold(0, |hash: u64, word| mix(hash.rotate_left(23) ^ word))
    })
}

/// A number for every word: a longest row of letters and digits, in lower case.
pub(crate) fn words(text: &str) -> impl Iterator<Item = u64> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let start = rest.iter().position(|&c| is_word(c))?;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut end = start;
        while end < rest.len() && is_word(rest[end]) {
            // FNV-1a over the letters, and a last mixing.
            hash = (hash ^ u64::from(rest[end].to_ascii_lowercase())).wrapping_mul(0x100_0000_01b3);
            end += 1;
        }
        rest = &rest[end..];
        Some(hash)
    })
}

/// Letters and digits, and every byte of a character beyond ASCII.
fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(id: &str, prompt: &str) -> Question {
        Question {
            id: id.to_owned(),
            task: "t".to_owned(),
            prompt: prompt.to_owned(),
            answer: String::new(),
            choices: Vec::new(),
            split: None,
            meta: serde_json::Map::new(),
        }
    }

    #[test]
    fn the_question_or_its_own_words_leak_and_the_tasks_wording_does_not() {
        let questions = [
            question(
                "1",
                "Please name the causal gene in the locus: ABC1, DEF2, GHI3",
            ),
            question(
                "2",
                "Please name the causal gene in the locus: JKL4, MNO5, PQR6",
            ),
        ];
        let leaks = Leaks::new(&questions, 4);
        let find = |id: &str, text: &str| leaks.find(id, [text]);
        assert_eq!(find("2", "anything"), Some(Leak::Question));
        let wording = "please, name THE causal gene in the locus: XYZ9, and so on";
        assert_eq!(find("7", wording), None);
        let words = "I saw (abc1, def2, ghi3) before, in the locus: JKL4";
        assert_eq!(find("7", words), Some(Leak::Words("2".to_owned())));
    }
}
