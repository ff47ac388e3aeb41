//! A model that says whether an answer is right: the second step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Entry, Item, Key, Log, LogError, Opinion, Signals};

/// What the judge is told first.
pub const SYSTEM: &str = "You grade answers to questions. You are given a question, its reference answer and what somebody answered. \
Decide whether the answer that they finally give means the same as the reference. Only their final answer counts: \
a reference that is merely mentioned, or is one of several candidates, is not an answer. Do not solve the question yourself. \
Reply with one JSON object and nothing else: {\"label\": 1, \"reason\": \"...\"} when it is right, {\"label\": 0, \"reason\": \"...\"} when it is not. \
The reason is one sentence.";

/// How much of a text the judge is shown, in characters, from its end.
const SHOWN: usize = 6_000;

/// What is asked of the judge about one attempt.
#[must_use]
pub fn prompt(item: &Item, signals: &Signals) -> String {
    format!(
        "Question:\n{}\n\nReference answer:\n{}\n\nExtracted answer:\n{}\n\nEnd of what they wrote:\n{}",
        end_of(&item.prompt),
        item.reference,
        end_of(&signals.solution),
        end_of(&item.response)
    )
}

fn end_of(text: &str) -> &str {
    let skip = text.chars().count().saturating_sub(SHOWN);
    let at = text
        .char_indices()
        .nth(skip)
        .map_or(text.len(), |(at, _)| at);
    &text[at..]
}

/// What the judge said of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Which attempt.
    #[serde(flatten)]
    pub key: Key,
    /// The judge's model.
    pub judge: String,
    /// BLAKE3 of model and prompt: the same is not asked twice.
    pub asked: String,
    /// What it said; none when it never gave a label.
    pub opinion: Option<Opinion>,
    /// Its reason, or what it said instead of a label.
    pub reason: String,
}

impl Entry for Judgement {
    const SCHEMA: &'static str = "xgraft.judgement/1";
}

/// Why a judge gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// It wants fewer questions (HTTP 429), and perhaps says after how many seconds.
    Busy(Option<u64>),
    /// Another failure that may pass.
    Passing(String),
    /// A failure that will not pass: a wrong key, an unknown model.
    Fatal(String),
}

/// A judging that stopped. What was judged is in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The judge cannot be asked.
    #[error(
        "the judge {judge} cannot be asked: {reason}; what was judged is kept, run the same command to go on"
    )]
    Refused {
        /// Its model.
        judge: String,
        /// What it said.
        reason: String,
    },
    /// The log cannot be written.
    #[error("cannot keep a judgement")]
    Log {
        /// The cause.
        #[from]
        source: LogError,
    },
}

/// How the judge is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How many are asked at once.
    pub workers: usize,
    /// The least time between two questions.
    pub between: Duration,
    /// How often one question is asked before it is left without a label.
    pub tries: u32,
    /// The wait after a first failure, which doubles.
    pub wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            workers: 4,
            between: Duration::ZERO,
            tries: 3,
            wait: Duration::from_secs(1),
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Had a judgement already.
    pub kept: usize,
    /// Taken from an equal question.
    pub cached: usize,
    /// Asked now.
    pub asked: usize,
    /// Asked now, and no label came.
    pub unlabelled: usize,
}

/// A label and a reason out of the judge's text, or what is wrong with it.
///
/// The text is one JSON object with `label` 0 or 1 and a `reason`, and nothing else but a fence around it and thoughts in
/// `<think>` before it. A digit somewhere in a text is no label.
///
/// # Errors
/// What the text is instead.
pub fn parse(text: &str) -> Result<(Opinion, String), String> {
    let text = text.trim();
    let text = text
        .split_once("</think>")
        .map_or(text, |(_, rest)| rest.trim());
    let fenced = text.strip_prefix("```").and_then(|t| t.strip_suffix("```"));
    let text = fenced.map_or(text, |t| t.strip_prefix("json").unwrap_or(t).trim());
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("no JSON object ({error})"))?;
    let opinion = match value.get("label").and_then(Value::as_u64) {
        Some(1) => Opinion::Right,
        Some(0) => Opinion::Wrong,
        _ => return Err("the field `label` is neither 0 nor 1".to_owned()),
    };
    match value.get("reason").and_then(Value::as_str) {
        Some(reason) => Ok((opinion, reason.to_owned())),
        None => Err("the field `reason` is no text".to_owned()),
    }
}

/// Asks `ask` about every item whose triage is unclear, and appends what it says to `log` at once.
///
/// What `known` has of the same model and prompt is not asked again.
///
/// # Errors
/// The judge refuses for good, or the log cannot be written.
pub fn judge(
    model: &str,
    items: &[(&Item, &Signals)],
    known: &[Judgement],
    log: &Log,
    pace: Pace,
    ask: &(dyn Fn(&str) -> Result<String, AskError> + Sync),
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Done, JudgeError> {
    let work = Work::plan(model, items, known);
    for judgement in &work.cached {
        log.append(judgement)?;
    }
    let mut done = Done {
        kept: work.kept,
        cached: work.cached.len(),
        ..Done::default()
    };
    let next = AtomicUsize::new(0);
    let finished = AtomicUsize::new(0);
    let slots = Slots::new(pace.between);
    let failed: Mutex<Option<JudgeError>> = Mutex::new(None);
    let unlabelled = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..pace.workers.max(1) {
            scope.spawn(|| {
                while failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .is_none()
                {
                    let Some(question) = work.open.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        break;
                    };
                    let said = question.ask(model, pace, &slots, ask);
                    let kept = said.and_then(|judgement| {
                        if judgement.opinion.is_none() {
                            unlabelled.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(log.append(&judgement)?)
                    });
                    match kept {
                        Ok(()) => progress(
                            finished.fetch_add(1, Ordering::Relaxed) + 1,
                            work.open.len(),
                        ),
                        Err(error) => {
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => {
            done.asked = finished.into_inner();
            done.unlabelled = unlabelled.into_inner();
            Ok(done)
        }
    }
}

/// What is to be asked.
struct Work {
    kept: usize,
    cached: Vec<Judgement>,
    open: Vec<Question>,
}

struct Question {
    key: Key,
    prompt: String,
    asked: String,
}

impl Work {
    fn plan(model: &str, items: &[(&Item, &Signals)], known: &[Judgement]) -> Self {
        let labelled = known.iter().filter(|judgement| judgement.opinion.is_some());
        let mut by_question: HashMap<&str, Vec<&Judgement>> = HashMap::new();
        for judgement in labelled {
            by_question
                .entry(&judgement.asked)
                .or_default()
                .push(judgement);
        }
        let mut work = Self {
            kept: 0,
            cached: Vec::new(),
            open: Vec::new(),
        };
        for (item, signals) in items {
            let prompt = prompt(item, signals);
            let asked = blake3::hash(format!("{model}\n{prompt}").as_bytes());
            let asked = asked.to_hex().to_string();
            let same = by_question.get(&*asked).map_or(&[][..], |all| all);
            match same.first() {
                Some(_) if same.iter().any(|j| j.key == item.key) => work.kept += 1,
                Some(other) => work.cached.push(Judgement {
                    key: item.key.clone(),
                    ..(*other).clone()
                }),
                None => work.open.push(Question {
                    key: item.key.clone(),
                    prompt,
                    asked,
                }),
            }
        }
        work
    }
}

impl Question {
    /// Asks until a label comes, at most as often as the pace allows.
    fn ask(
        &self,
        model: &str,
        pace: Pace,
        slots: &Slots,
        ask: &(dyn Fn(&str) -> Result<String, AskError> + Sync),
    ) -> Result<Judgement, JudgeError> {
        let mut last = String::new();
        let mut failures = 0;
        for attempt in 0..pace.tries.max(1) {
            slots.wait();
            let wait = pace.wait * 2_u32.pow(attempt);
            match ask(&self.prompt) {
                Ok(text) => match parse(&text) {
                    Ok((opinion, reason)) => {
                        return Ok(self.judgement(model, Some(opinion), reason));
                    }
                    Err(why) => {
                        let said: String = text.chars().take(200).collect();
                        last = format!("{why}: {said}");
                    }
                },
                Err(AskError::Busy(after)) => {
                    failures += 1;
                    last = "it wants fewer questions".to_owned();
                    std::thread::sleep(after.map_or(wait * 5, Duration::from_secs));
                }
                Err(AskError::Passing(why)) => {
                    failures += 1;
                    last = why;
                    std::thread::sleep(wait);
                }
                Err(AskError::Fatal(reason)) => return Err(refused(model, reason)),
            }
        }
        if failures == pace.tries.max(1) {
            // It never answered: that is no judgement, and whoever runs this must know.
            return Err(refused(model, last));
        }
        Ok(self.judgement(model, None, last))
    }

    fn judgement(&self, model: &str, opinion: Option<Opinion>, reason: String) -> Judgement {
        Judgement {
            key: self.key.clone(),
            judge: model.to_owned(),
            asked: self.asked.clone(),
            opinion,
            reason,
        }
    }
}

fn refused(model: &str, reason: String) -> JudgeError {
    JudgeError::Refused {
        judge: model.to_owned(),
        reason,
    }
}

/// Times at which questions may be asked, one after the other.
struct Slots {
    between: Duration,
    next: Mutex<Instant>,
}

impl Slots {
    fn new(between: Duration) -> Self {
        Self {
            between,
            next: Mutex::new(Instant::now()),
        }
    }

    fn wait(&self) {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = (*next).max(now);
        *next = mine + self.between;
        drop(next);
        std::thread::sleep(mine.saturating_duration_since(now));
    }
}
