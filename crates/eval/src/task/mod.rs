//! Tasks: how a question is put, where its answer stands, and what it is worth.

mod answer;
mod literal;
mod parser;
mod score;
mod strings;
mod text;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xgraft_dataset::Question;

pub(crate) use self::answer::without_thoughts;
pub use self::answer::{Place, answer_in};
pub use self::score::{Scorer, Verdict};

/// One task, or all whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Task {
    /// Its name; a `*` at the end stands for any rest.
    pub name: String,
    /// How answers are scored.
    pub scorer: Scorer,
    /// Where the answer stands in what the model says.
    #[serde(default)]
    pub answer: Place,
    /// What the model is told first, where it is not the harness that says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The prompt, with the question's own in the place of `{prompt}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// The tasks of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// What the benchmark is called.
    pub name: String,
    /// Its tasks; of two that a question could belong to, the first counts.
    #[serde(rename = "task")]
    pub tasks: Vec<Task>,
}

/// Tasks that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The file cannot be read.
    #[error("cannot read the tasks {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is no list of tasks.
    #[error("{}: not a list of tasks; expected `name` and a `[[task]]` with `name` and `scorer` for each", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<toml::de::Error>,
    },
    /// No task has the name that a question names.
    #[error("question {id}: unknown task `{task}`, expected one of {expected}")]
    Unknown {
        /// The question.
        id: String,
        /// What it names.
        task: String,
        /// The tasks that are known.
        expected: String,
    },
}

/// The ten tasks of Eval1, by the first words of their names where the official scorer goes by these.
const EVAL1: &[(&str, Scorer)] = &[
    ("crispr_delivery", Scorer::Lower),
    ("gwas_causal_gene*", Scorer::Upper),
    ("gwas_variant_prioritization", Scorer::Exact),
    ("hle", Scorer::Upper),
    ("lab_bench*", Scorer::Upper),
    ("rare_disease_diagnosis", Scorer::OmimId),
    ("screen_gene_retrieval", Scorer::Upper),
    ("patient_gene_detection", Scorer::CausalGene),
];

impl Tasks {
    /// Eval1, with the official scores of its ten tasks.
    #[must_use]
    pub fn eval1() -> Self {
        let task = |(name, scorer): &(&str, Scorer)| Task {
            name: (*name).to_owned(),
            scorer: *scorer,
            answer: Place::default(),
            system: None,
            template: None,
        };
        Self {
            name: "eval1".to_owned(),
            tasks: EVAL1.iter().map(task).collect(),
        }
    }

    /// Tasks by name, or from a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, or says something else.
    pub fn named(name: &str) -> Result<Self, TaskError> {
        if name == "eval1" {
            return Ok(Self::eval1());
        }
        let path = Path::new(name);
        let text = std::fs::read_to_string(path).map_err(|source| TaskError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| TaskError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// The task of a question.
    ///
    /// # Errors
    /// There is none.
    pub fn of(&self, question: &Question) -> Result<&Task, TaskError> {
        let mut tasks = self.tasks.iter();
        tasks
            .find(|task| task.covers(&question.task))
            .ok_or_else(|| TaskError::Unknown {
                id: question.id.clone(),
                task: question.task.clone(),
                expected: self.names().join(", "),
            })
    }

    fn names(&self) -> Vec<&str> {
        self.tasks.iter().map(|task| task.name.as_str()).collect()
    }
}

impl Task {
    fn covers(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.name,
        }
    }

    /// What is asked.
    #[must_use]
    pub fn prompt(&self, question: &Question) -> String {
        match &self.template {
            Some(template) => template.replace("{prompt}", &question.prompt),
            None => question.prompt.clone(),
        }
    }
}
