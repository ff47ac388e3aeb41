//! What is known of one arm: how its questions ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xgraft_dataset::Class;
use xgraft_statistics::Count;

use super::OfQuestion;

/// How the questions of one task ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Right answers.
    pub right: u64,
    /// Wrong answers.
    pub wrong: u64,
    /// No answer, or none of the task's form.
    pub unparsed: u64,
    /// A limit was reached first.
    pub overflow: u64,
    /// The endpoint failed.
    pub infrastructure: u64,
    /// Nobody said how they ended: the published results have such.
    pub unlabelled: u64,
}

impl Tally {
    /// Counts one attempt.
    pub fn add(&mut self, class: Class) {
        *match class {
            Class::Right => &mut self.right,
            Class::Wrong => &mut self.wrong,
            Class::Unparsed => &mut self.unparsed,
            Class::Overflow => &mut self.overflow,
            Class::Infrastructure => &mut self.infrastructure,
        } += 1;
    }

    /// All that were asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.scored() + self.infrastructure + self.unlabelled
    }

    /// All that say something about the model.
    #[must_use]
    pub fn scored(&self) -> u64 {
        self.right + self.wrong + self.unparsed + self.overflow
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            right: self.right + other.right,
            wrong: self.wrong + other.wrong,
            unparsed: self.unparsed + other.unparsed,
            overflow: self.overflow + other.overflow,
            infrastructure: self.infrastructure + other.infrastructure,
            unlabelled: self.unlabelled + other.unlabelled,
        }
    }
}

/// What failures of the infrastructure count as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Infrastructure {
    /// Nothing: they say nothing about the model.
    Excluded,
    /// Wrong answers, as the published tables have it.
    Wrong,
}

/// Whose word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scoring {
    /// The official score.
    Strict,
    /// The labels of the annotation.
    Judged,
}

/// All attempts at one question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempts {
    /// The score of each repetition, by its name.
    pub scores: BTreeMap<String, f64>,
    /// The cluster that the question belongs to, where it has one.
    pub cluster: Option<String>,
}

impl Attempts {
    /// The mean over repetitions.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.scores.values().sum::<f64>() / self.scores.len() as f64
    }

    /// Right repetitions of all.
    #[must_use]
    pub fn count(&self) -> Count {
        let right = self.scores.values().filter(|score| **score > 0.5).count();
        Count::new(right as u64, self.scores.len() as u64)
    }
}

/// Bytes of weights and adapter, in 10⁹.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// As the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<f64>,
    /// As the shapes of the tensors give it, or files were measured.
    pub computed: f64,
}

/// One arm of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// A short name, unique among the arms that are compared.
    pub name: String,
    /// What it is.
    pub label: String,
    /// What failures of the infrastructure count as.
    pub infrastructure: Infrastructure,
    /// Whose word the tallies follow.
    pub scoring: Scoring,
    /// How the questions of each task ended.
    pub tasks: BTreeMap<String, Tally>,
    /// The same by the other scoring, where it is known.
    pub other: Option<BTreeMap<String, Tally>>,
    /// The scored attempts by task and question; empty where only counts are known.
    pub questions: BTreeMap<(String, String), Attempts>,
    /// Seconds that all questions took, summed.
    pub seconds: Option<f64>,
    /// What it takes of memory.
    pub size: Option<Size>,
    /// What its server took of memory, in 10⁹ bytes.
    pub resident: Option<f64>,
    /// Whether its questions were made up.
    pub synthetic: bool,
    /// How far it is from the reference on each question; empty where nobody measured it.
    pub distances: BTreeMap<String, OfQuestion>,
}

impl Arm {
    /// An arm of which nothing is known yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            label: name.clone(),
            name,
            infrastructure: Infrastructure::Excluded,
            scoring: Scoring::Strict,
            tasks: BTreeMap::new(),
            other: None,
            questions: BTreeMap::new(),
            seconds: None,
            size: None,
            resident: None,
            synthetic: false,
            distances: BTreeMap::new(),
        }
    }

    /// Right answers of a task's questions, by this arm's rule for failures of the infrastructure.
    #[must_use]
    pub fn count(&self, tally: &Tally) -> Count {
        let n = match self.infrastructure {
            Infrastructure::Excluded => tally.scored(),
            Infrastructure::Wrong => tally.asked(),
        };
        Count::new(tally.right, n)
    }

    /// The counts of all tasks, in the order of their names.
    #[must_use]
    pub fn counts(&self) -> Vec<Count> {
        self.counts_of(&self.tasks)
    }

    /// The counts of these tasks.
    pub(super) fn counts_of(&self, tasks: &BTreeMap<String, Tally>) -> Vec<Count> {
        tasks.values().map(|tally| self.count(tally)).collect()
    }

    /// The mean over tasks of each task's share in whole percent, which is how the published tables round.
    #[must_use]
    pub fn macro_of_whole_percents(&self) -> f64 {
        let counts = self.counts();
        let percents = counts.iter().map(|count| (100.0 * count.share()).round());
        percents.sum::<f64>() / counts.len() as f64 / 100.0
    }

    /// All tasks together.
    #[must_use]
    pub fn total(&self) -> Tally {
        let none = Tally::default();
        self.tasks.values().fold(none, |sum, task| sum.plus(task))
    }

    /// Whether every question was answered once.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.questions.values().all(|q| q.scores.len() == 1)
    }
}
