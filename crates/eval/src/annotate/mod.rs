//! What an answer is worth beyond its form: the four steps of the published annotation.
//!
//! 1. [`Signals`]: what stands in the text (the solution, the answers that other phrases name), and a [`Triage`] that settles the plain cases.
//! 2. [`judge`]: a model says of the rest whether they are right, and why.
//! 3. Decisions of people, from the review page.
//! 4. [`aggregate()`]: one label an attempt, and how well judge and people agree.
//!
//! The official score is never changed: it is the strict accuracy, the labels give the judged one, and both are reported.
//!
//! Each step is a file in `annotation/` of the run: `judge.jsonl` and `human.jsonl` are logs to which whole lines are appended,
//! the other two are made again from them. Where the published steps are known to err, these do not: a "1" somewhere in a
//! judge's text is no label, a full stop after an answer does not make it wrong, and who decided what is written down.

mod aggregate;
mod folder;
mod item;
pub mod judge;
mod log;
mod signals;

pub use self::aggregate::{Agreed, By, Label, LabelRow, Summary, aggregate, read_labels};
pub use self::folder::{AnnotateError, Annotation};
pub use self::item::{Item, Key};
pub use self::log::{Entry, Log, LogError};
pub use self::signals::{Signals, Solution, Triage, signals};

use serde::{Deserialize, Serialize};

/// The folder of a run that holds its annotation.
pub(crate) const FOLDER: &str = "annotation";
/// The judge's log.
pub(crate) const JUDGE_LOG: &str = "judge.jsonl";
/// The log of people's decisions.
pub(crate) const HUMAN_LOG: &str = "human.jsonl";
/// One line an attempt: what was found in its text.
pub(crate) const SIGNALS: &str = "signals.jsonl";
/// One line an attempt: its label.
pub(crate) const LABELS: &str = "labels.jsonl";

/// What somebody says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opinion {
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
    /// They looked, and cannot say.
    Unsure,
}

/// A person's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The attempt.
    #[serde(flatten)]
    pub key: Key,
    /// What they say.
    pub opinion: Opinion,
    /// Who.
    pub who: String,
    /// When: seconds since 1970, UTC.
    pub when: u64,
}

impl Entry for Decision {
    const SCHEMA: &'static str = "xgraft.decision/1";
}
