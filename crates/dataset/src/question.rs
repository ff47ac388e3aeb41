//! The question.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, Object, Reader, Record, Result};

/// One question of a benchmark, with its reference answer.
///
/// Rows with the columns of Eval1 (`instance_id`, `task_instance_id`, `task_name`, `split`, `prompt`, `answer`) are read
/// too: `instance_id` becomes the id, `task_name` the task, and `task_instance_id` stays in `meta`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "schema", rename = "xgraft.question/1")]
pub struct Question {
    /// Unique within the file.
    pub id: String,
    /// The task, which says how an answer is scored.
    pub task: String,
    /// What is asked.
    pub prompt: String,
    /// The reference answer, in the form that the task scores.
    pub answer: String,
    /// The choices in order, where the task is a choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The part of the benchmark: `train`, `val`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// What else is known of it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

impl Record for Question {
    const SCHEMA: &'static str = "xgraft.question/1";
    /// Benchmarks of others name no schema.
    const NEEDS_SCHEMA: bool = false;

    fn from_object(object: &mut Object) -> Result<Self> {
        if object.has("id") {
            own(object)
        } else {
            eval1(object)
        }
    }
}

fn own(object: &mut Object) -> Result<Question> {
    Ok(Question {
        id: object.text("id")?,
        task: object.text("task")?,
        prompt: object.text("prompt")?,
        answer: object.text("answer")?,
        choices: object
            .optional("choices", "a list of strings")?
            .unwrap_or_default(),
        split: object.optional("split", "a string")?,
        meta: object.optional("meta", "an object")?.unwrap_or_default(),
    })
}

fn eval1(object: &mut Object) -> Result<Question> {
    let id = object.number("instance_id")?.to_string();
    let mut meta = Map::new();
    let in_task = object.number("task_instance_id")?;
    meta.insert("task_instance_id".to_owned(), in_task.into());
    Ok(Question {
        id,
        task: object.text("task_name")?,
        prompt: object.text("prompt")?,
        answer: object.text("answer")?,
        choices: Vec::new(),
        split: object.optional("split", "a string")?,
        meta,
    })
}

/// Reads all questions of a file, each of which has an id of its own.
///
/// # Errors
/// The file cannot be read, has no row, has a row that is no question, or one id twice.
pub fn read_questions(path: &Path) -> Result<Vec<Question>> {
    let mut questions: Vec<Question> = Vec::new();
    let mut places: HashMap<String, String> = HashMap::new();
    let mut reader = Reader::<Question>::open(path)?;
    while let Some(question) = reader.next() {
        let question = question?;
        if let Some(first) = places.insert(question.id.clone(), reader.at()) {
            return Err(Error::Duplicate {
                at: reader.at(),
                id: question.id,
                first,
            });
        }
        questions.push(question);
    }
    if questions.is_empty() {
        return Err(Error::Empty {
            path: path.to_owned(),
        });
    }
    Ok(questions)
}
