//! Whether a text has anything of the evaluation set in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use xgraft_dataset::Question;

use crate::minhash::mix;

/// A run of words that stands in so many different prompts is the wording of their task. Fewer may be one question that is
/// asked in two ways.
const WORDING: u32 = 4;

/// A prompt of fewer words may stand in any text, so that it counts only where it is a whole message.
const CONTAINED: usize = 5;

/// What the questions of an evaluation set look like.
///
/// A text leaks when it belongs to one of the questions, or has a run of `length` words that stands in one of them and in fewer
/// than four different prompts, or has a whole prompt in it that has no such run. Prompts of equal words are one.
#[derive(Debug)]
pub struct Leaks {
    length: usize,
    ids: HashSet<String>,
    /// Runs of `length` words, and whose they are.
    runs: HashMap<u64, u32>,
    /// Whole prompts by their number of words, where that is looked for in longer texts.
    contained: BTreeMap<usize, HashMap<u64, u32>>,
    /// Whole prompts that count only as a whole message.
    alone: HashMap<u64, u32>,
    names: Vec<String>,
}

/// How a text leaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leak {
    /// It is of this question of the evaluation set.
    Question(String),
    /// It has a run of words of this question.
    Words(String),
    /// It has the whole prompt of this question in it.
    Prompt(String),
}

impl Leak {
    /// The question of the evaluation set.
    pub(crate) fn question(&self) -> &str {
        match self {
            Self::Question(id) | Self::Words(id) | Self::Prompt(id) => id,
        }
    }
}

impl Leaks {
    /// # Panics
    /// When a run has no word.
    #[must_use]
    pub fn new(questions: &[Question], length: usize) -> Self {
        assert!(length > 0, "runs of at least one word");
        let mut leaks = Self {
            length,
            ids: questions.iter().map(|q| q.id.clone()).collect(),
            runs: HashMap::new(),
            contained: BTreeMap::new(),
            alone: HashMap::new(),
            names: Vec::new(),
        };
        let prompts = leaks.different(questions);
        let runs = prompts_with(&prompts, [length]);
        let own = runs.into_iter().filter(|(_, (count, _))| *count < WORDING);
        leaks.runs = own.map(|(run, (_, first))| (run, first)).collect();
        let is_own = |run: u64| leaks.runs.contains_key(&run);
        let rest = (0_u32..).zip(&prompts);
        let rest: Vec<_> = rest
            .filter(|(_, prompt)| !prompt.runs(length).any(is_own))
            .collect();
        let lengths: HashSet<usize> = rest.iter().map(|(_, prompt)| prompt.len()).collect();
        let inside = prompts_with(&prompts, lengths);
        for (index, prompt) in rest {
            let (whole, words) = (prompt.whole(), prompt.len());
            let is_wording = inside.get(&whole).is_some_and(|&(n, _)| n > WORDING);
            if words < CONTAINED || is_wording {
                leaks.alone.insert(whole, index);
            } else {
                let of_length = leaks.contained.entry(words).or_default();
                of_length.insert(whole, index);
            }
        }
        leaks
    }

    /// Prompts without a word are nobody's; of equal ones the first gives the name.
    fn different(&mut self, questions: &[Question]) -> Vec<Words> {
        let mut seen = HashSet::new();
        let mut prompts = Vec::new();
        for question in questions {
            let prompt = Words::of(&question.prompt);
            if prompt.len() > 0 && seen.insert(prompt.whole()) {
                prompts.push(prompt);
                self.names.push(question.id.clone());
            }
        }
        prompts
    }

    /// How the text of an attempt at `question` leaks, if it does.
    pub(crate) fn find<'a>(
        &self,
        question: &str,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Option<Leak> {
        if self.ids.contains(question) {
            return Some(Leak::Question(question.to_owned()));
        }
        texts.into_iter().find_map(|text| self.find_in(text))
    }

    fn find_in(&self, text: &str) -> Option<Leak> {
        let name = |index: &u32| self.names[*index as usize].clone();
        let words = Words::of(text);
        if let Some(index) = self.alone.get(&words.whole()) {
            return Some(Leak::Prompt(name(index)));
        }
        for (length, prompts) in self.contained.range(..=words.len()) {
            if let Some(index) = words.runs(*length).find_map(|run| prompts.get(&run)) {
                return Some(Leak::Prompt(name(index)));
            }
        }
        let index = words
            .runs(self.length)
            .find_map(|run| self.runs.get(&run))?;
        Some(Leak::Words(name(index)))
    }
}

/// Of every run of these lengths, in how many prompts it stands, and the first of them.
fn prompts_with(
    prompts: &[Words],
    lengths: impl IntoIterator<Item = usize>,
) -> HashMap<u64, (u32, u32)> {
    let mut found: HashMap<u64, (u32, u32)> = HashMap::new();
    for length in lengths {
        for (index, prompt) in (0_u32..).zip(prompts) {
            let runs: HashSet<u64> = prompt.runs(length).collect();
            for run in runs {
                found.entry(run).or_insert((0, index)).0 += 1;
            }
        }
    }
    found
}

/// The words of a text, so that a run of any length is a number after two steps.
struct Words {
    /// A polynomial of the words before each place, modulo 2⁶⁴.
    before: Vec<u64>,
}

impl Words {
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

    fn of(text: &str) -> Self {
        let mut before = vec![0_u64];
        let mut sum = 0_u64;
        for word in words(text) {
            sum = sum.wrapping_mul(Self::BASE).wrapping_add(mix(word));
            before.push(sum);
        }
        Self { before }
    }

    fn len(&self) -> usize {
        self.before.len() - 1
    }

    /// A number for every run of `length` words.
    fn runs(&self, length: usize) -> impl Iterator<Item = u64> {
        let power = (0..length.min(self.len())).fold(1_u64, |p, _| p.wrapping_mul(Self::BASE));
        let ends = self.before.iter().skip(length);
        let runs = self.before.iter().zip(ends);
        runs.map(move |(start, end)| {
            mix(end.wrapping_sub(start.wrapping_mul(power)) ^ mix(length as u64))
        })
    }

    /// The number of all words together.
    fn whole(&self) -> u64 {
        self.runs(self.len()).next().unwrap_or(0)
    }
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

    fn leaks(prompts: &[&str], length: usize) -> Leaks {
        let questions = prompts.iter().enumerate().map(|(index, prompt)| Question {
            id: index.to_string(),
            task: "t".to_owned(),
            prompt: (*prompt).to_owned(),
            answer: String::new(),
            choices: Vec::new(),
            split: None,
            meta: serde_json::Map::new(),
        });
        Leaks::new(&questions.collect::<Vec<_>>(), length)
    }

    fn found(leaks: &Leaks, text: &str) -> Option<Leak> {
        leaks.find("another", [text])
    }

    const LOCI: [&str; 4] = [
        "Please name the causal gene in the locus: ABC1, DEF2, GHI3",
        "Please name the causal gene in the locus: JKL4, MNO5, PQR6",
        "Please name the causal gene in the locus: STU7, VWX8, YZA9",
        "Please name the causal gene in the locus: BCD1, EFG2, HIJ3",
    ];

    #[test]
    fn the_question_or_its_own_words_leak_and_the_tasks_wording_does_not() {
        let leaks = leaks(&LOCI, 4);
        assert_eq!(
            leaks.find("2", ["anything"]),
            Some(Leak::Question("2".to_owned()))
        );
        let wording = "please, name THE causal gene in the locus: XYZ9, and so on";
        assert_eq!(found(&leaks, wording), None);
        let words = "I saw (abc1, def2, ghi3) before, in the locus: JKL4";
        assert_eq!(found(&leaks, words), Some(Leak::Words("1".to_owned())));
    }

    #[test]
    fn prompts_shorter_than_a_run_leak_whole_or_inside_a_longer_text() {
        let leaks = leaks(
            &["Which gene causes disease number 7 ?", "BRCA1 or TP53?"],
            13,
        );
        let prompt = |id: &str| Some(Leak::Prompt(id.to_owned()));
        assert_eq!(
            found(&leaks, "which GENE causes disease number 7"),
            prompt("0")
        );
        let inside = "You are a biologist. Which gene causes disease number 7? Answer with one.";
        assert_eq!(found(&leaks, inside), prompt("0"));
        assert_eq!(found(&leaks, "Which gene causes disease number 8 ?"), None);
        assert_eq!(found(&leaks, "BRCA1, or TP53."), prompt("1"));
        let few = "It may be BRCA1 or TP53, which both repair DNA.";
        assert_eq!(found(&leaks, few), None, "three words stand anywhere");
        assert_eq!(found(&leaks, ""), None);
    }

    #[test]
    fn a_question_that_stands_twice_is_one_and_leaks() {
        let mut twice = LOCI.to_vec();
        twice.extend(LOCI);
        twice.extend(["Please name the causal gene in the LOCUS: (ABC1, DEF2, GHI3)"; 3]);
        let twice = leaks(&twice, 4);
        assert_eq!(found(&twice, LOCI[1]), Some(Leak::Words("1".to_owned())));
        // The same question in two or three wordings is not the wording of a task either.
        let stem = "The fictional protein XUGAVO binds the kinase ZIMAPO in cells of the liver";
        let asked =
            ["Where?", "In which organ?", "Name the organ."].map(|end| format!("{stem}. {end}"));
        let three = leaks(&asked.each_ref().map(String::as_str), 13);
        assert_eq!(found(&three, stem), Some(Leak::Words("0".to_owned())));
    }

    #[test]
    fn a_prompt_made_of_wording_alone_leaks_whole_and_one_that_many_begin_with_only_alone() {
        let ends = ["one", "two", "three", "four"];
        let long = ends.map(|end| format!("Name the causal gene of this locus {end}"));
        let mut all: Vec<&str> = long.iter().map(String::as_str).collect();
        all.push("Name the causal gene of this locus");
        let leaks = leaks(&all, 5);
        let prompt = |id: &str| Some(Leak::Prompt(id.to_owned()));
        assert_eq!(found(&leaks, all[4]), prompt("4"));
        let longer = "Name the causal gene of this locus seven";
        assert_eq!(found(&leaks, longer), None);
        assert_eq!(
            found(&leaks, "name the causal gene of this locus three, please"),
            Some(Leak::Words("2".to_owned()))
        );
    }
}
