//! Both passes, and the choices between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};
use xgraft_dataset::{Message, Question, Trajectory};
use xgraft_tokenizer::{ChatTemplate, Conversation, Tokenizer};

use crate::candidate::{Candidates, candidates, conversation, digest, joined, rows};
use crate::leak::Leak;
use crate::report::histogram;
use crate::{Error, Leaks, MinHash, Provenance, Report, Result, Sample, Share, Tokens, quotas};

/// What is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many samples.
    pub samples: usize,
    /// Where the quantizer will cut a sample, in tokens.
    pub max_tokens: usize,
    /// What everything random begins with.
    pub seed: u64,
    /// Two texts with this share of shingles in common are near duplicates.
    pub similarity: f64,
    /// The words of a run that betrays a question.
    pub run_of_words: usize,
    /// The share of questions that calibration may use; the others are for the evaluation. All where none is given.
    pub split: Option<f64>,
    /// Whether a set that has something of the evaluation in it is built all the same.
    pub allow_contamination: bool,
    /// Whether attempts that have something of the evaluation in them are left out, so that others take their place.
    pub drop_leaks: bool,
}

impl Default for Config {
    /// 128 samples of 8192 tokens, as the published set.
    fn default() -> Self {
        Self {
            samples: 128,
            max_tokens: 8192,
            seed: 0,
            similarity: 0.8,
            run_of_words: 13,
            split: None,
            allow_contamination: false,
            drop_leaks: false,
        }
    }
}

impl Config {
    /// A number for a text, which says in which order candidates are taken.
    pub(crate) fn number(&self, text: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(text);
        *hasher.finalize().as_bytes()
    }

    /// Whether calibration may use the question: by seed and id alone, so that an evaluation can leave out the same ones.
    pub(crate) fn may_use(&self, question: &str) -> bool {
        let Some(share) = self.split else {
            return true;
        };
        let number = self.number(format!("split {question}").as_bytes());
        let [a, b, c, d, ..] = number;
        f64::from(u32::from_le_bytes([a, b, c, d])) < share * f64::from(u32::MAX)
    }
}

/// Builds the set: reads `path` twice, and returns the samples in the order of their tasks and numbers.
///
/// `evaluation` are the questions that the result will be measured with. With a split, those that calibration may use are no
/// longer among them.
///
/// # Errors
/// The file cannot be read, nothing in it may be taken, a sample cannot be rendered or counted, or there is no evaluation set or
/// something of it in the samples and the configuration does not allow that.
pub fn build(
    path: &Path,
    evaluation: Option<&[Question]>,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    config: &Config,
) -> Result<(Vec<Sample>, Report)> {
    if evaluation.is_none() && !config.allow_contamination {
        return Err(Error::Unchecked);
    }
    let held_out: Vec<Question> = evaluation
        .into_iter()
        .flatten()
        .filter(|question| config.split.is_none() || !config.may_use(&question.id))
        .cloned()
        .collect();
    let leaks = Leaks::new(&held_out, config.run_of_words);
    let found = candidates(path, config, &leaks)?;
    let (tasks, chosen, near_duplicates) = choose(&found, config);
    if chosen.is_empty() {
        return Err(Error::Nothing {
            path: path.to_owned(),
            rows: found.rows,
            right: found.classes.get("right").copied().unwrap_or(0),
            leaking: found.leaks.values().sum(),
            open: found.open(),
        });
    }
    let samples = samples(path, &chosen, tokenizer, template)?;
    let contaminated = contaminated(&samples, &leaks);
    if !contaminated.is_empty() && !config.allow_contamination {
        return Err(Error::Contaminated {
            count: contaminated.len(),
            samples: samples.len(),
            examples: contaminated[..contaminated.len().min(3)].join(", "),
        });
    }
    let counts: Vec<usize> = samples.iter().map(|sample| sample.tokens).collect();
    let report = Report {
        schema: "xgraft.calibration-report/1",
        rows: found.rows,
        classes: found.classes,
        held_out: found.held_out,
        secrets: found.secrets,
        exact_duplicates: found.exact_duplicates,
        near_duplicates,
        tasks,
        samples: samples.len(),
        tokens: Tokens::of(&counts, config.max_tokens),
        histogram: histogram(&counts),
        contaminated,
        leaks: found.leaks,
        evaluation: held_out.into_iter().map(|question| question.id).collect(),
    };
    Ok((samples, report))
}

/// The rows that are taken, with their place in the set.
type Chosen = BTreeMap<u64, usize>;

/// Leaves out near duplicates, and takes of every task its share.
fn choose(found: &Candidates, config: &Config) -> (BTreeMap<String, Share>, Chosen, u64) {
    let mut kept: Vec<&MinHash> = Vec::new();
    let mut rows: BTreeMap<&String, Vec<u64>> = BTreeMap::new();
    let mut near_duplicates = 0;
    for (task, of_task) in &found.by_task {
        let rows = rows.entry(task).or_default();
        for candidate in of_task.values() {
            let same = |other: &&MinHash| candidate.sketch.similarity(other) >= config.similarity;
            if kept.iter().any(same) {
                near_duplicates += 1;
            } else if rows.len() < config.samples {
                kept.push(&candidate.sketch);
                rows.push(candidate.row);
            }
        }
    }
    let available = rows
        .iter()
        .map(|(task, rows)| ((*task).clone(), rows.len()));
    let shares = quotas(&available.collect(), config.samples);
    let taken = rows
        .iter()
        .flat_map(|(task, rows)| &rows[..shares[*task].taken]);
    let chosen = taken.enumerate().map(|(place, row)| (*row, place));
    let chosen = chosen.collect();
    (shares, chosen, near_duplicates)
}

/// The second pass.
fn samples(
    path: &Path,
    chosen: &Chosen,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> Result<Vec<Sample>> {
    let mut samples = BTreeMap::new();
    for row in rows(path)? {
        let (number, attempt) = row?;
        if let Some(place) = chosen.get(&number) {
            samples.insert(*place, sample(number, &attempt, tokenizer, template)?);
            if samples.len() == chosen.len() {
                break;
            }
        }
    }
    Ok(samples.into_values().collect())
}

fn sample(
    row: u64,
    attempt: &Trajectory,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> Result<Sample> {
    let messages = conversation(attempt);
    let text = render(template, &messages, &attempt.question, false)?;
    let tokens = encode(tokenizer, &text, &attempt.question)?;
    Ok(Sample {
        tokens: tokens.len(),
        provenance: Provenance {
            row,
            question: attempt.question.clone(),
            task: attempt.task.clone(),
            arm: attempt.arm.clone(),
            model: attempt.model.clone(),
            run: attempt.run.clone(),
            score: attempt.score,
            blake3: digest(&messages).to_hex().to_string(),
        },
        messages,
        text,
    })
}

/// The conversation as the model sees it, without a template the texts one after the other; as a prompt it ends where the model
/// begins to speak.
pub(crate) fn render(
    template: Option<&ChatTemplate>,
    messages: &[Message],
    question: &str,
    prompt: bool,
) -> Result<String> {
    rendered(template, messages, question, prompt, &Map::new())
}

/// The same with the template's switches.
pub(crate) fn rendered(
    template: Option<&ChatTemplate>,
    messages: &[Message],
    question: &str,
    prompt: bool,
    kwargs: &Map<String, Value>,
) -> Result<String> {
    let Some(template) = template else {
        return Ok(joined(messages));
    };
    let values = messages
        .iter()
        .map(|message| serde_json::json!({"role": message.role, "content": message.content}));
    let values: Vec<_> = values.collect();
    let mut conversation = Conversation::new(&values);
    conversation.add_generation_prompt = prompt;
    conversation.kwargs = Some(kwargs);
    let rendered = template.render(&conversation);
    rendered.map_err(|source| Error::Template {
        question: question.to_owned(),
        source: Box::new(source),
    })
}

pub(crate) fn encode(tokenizer: &Tokenizer, text: &str, question: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text, false);
    ids.map_err(|source| Error::Tokens {
        question: question.to_owned(),
        source: Box::new(source),
    })
}

/// A line for every sample that has something of the evaluation in it.
fn contaminated(samples: &[Sample], leaks: &Leaks) -> Vec<String> {
    let found = samples.iter().filter_map(|sample| {
        let question = &sample.provenance.question;
        let texts = sample.messages.iter().map(|m| m.content.as_str());
        Some(match leaks.find(question, texts)? {
            Leak::Question(_) => format!("question {question}"),
            Leak::Words(other) => format!("question {question} has words of question {other}"),
            Leak::Prompt(other) => {
                format!("question {question} has the prompt of question {other}")
            }
        })
    });
    let unique: BTreeSet<String> = found.collect();
    unique.into_iter().collect()
}
