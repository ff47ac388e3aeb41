//! What keeps results from being counted.

use std::path::PathBuf;

/// Results that cannot be counted or compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not one of the files that are known.
    #[error("{}: not a file of results: expected {expected}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
    /// The object has none of the fields by which the files are told apart.
    #[error(
        "{}: expected `by_task` (statistics of one arm) or `arms` (several), found {found}",
        path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The fields that are there.
        found: String,
    },
    /// Rows that cannot be read.
    #[error("cannot count {}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The judged accuracy of a run that nobody has annotated.
    #[error("expected the labels {}, found none; run `xgraft eval annotate` first", path.display())]
    Labels {
        /// Where they would be.
        path: PathBuf,
    },
    /// Distances of two arms that are of other answers.
    #[error(
        "question {question}: the distance of arm {arm} is of an answer of {tokens} tokens, and that of {other} of {other_tokens}; both have to be of the same run's answers"
    )]
    OtherAnswers {
        /// The question.
        question: String,
        /// One arm.
        arm: String,
        /// Its tokens.
        tokens: u64,
        /// The other arm.
        other: String,
        /// Its tokens.
        other_tokens: u64,
    },
    /// Two finished attempts with one name.
    #[error(
        "{at}: question {question} of run {run} in arm {arm} was already counted; a repetition needs a run of its own"
    )]
    Duplicate {
        /// File and line.
        at: String,
        /// The question.
        question: String,
        /// The repetition.
        run: String,
        /// The arm.
        arm: String,
    },
    /// Parts that do not add up to the whole.
    #[error("{at}: expected the parts to add up to {expected} questions, found {found}")]
    Sum {
        /// File, arm and task.
        at: String,
        /// The whole.
        expected: u64,
        /// The sum of the parts.
        found: u64,
    },
    /// Nothing was scored.
    #[error("arm {arm}: expected scored questions in task {task}, found none")]
    Empty {
        /// The arm.
        arm: String,
        /// The task.
        task: String,
    },
    /// Two arms that were not asked alike.
    #[error(
        "arm {arm} has the task {task}, which arm {other} has not; compare arms of one benchmark, or give --task"
    )]
    Tasks {
        /// The arm that has it.
        arm: String,
        /// The arm that has not.
        other: String,
        /// The task.
        task: String,
    },
    /// The same question belongs to two tasks.
    #[error(
        "question {question} is of task {task} in arm {arm}, and of {other_task} in arm {other}"
    )]
    Question {
        /// The question.
        question: String,
        /// An arm.
        arm: String,
        /// Its task there.
        task: String,
        /// Another arm.
        other: String,
        /// Its task there.
        other_task: String,
    },
    /// Two arms share a name.
    #[error("two arms are called {name}; name them with NAME=PATH")]
    Name {
        /// The name.
        name: String,
    },
    /// An arm is asked for that is not there.
    #[error("unknown arm {name}, expected one of {known}")]
    Arm {
        /// What was asked for.
        name: String,
        /// The arms that are there.
        known: String,
    },
    /// A claim about a task that is not there.
    #[error("unknown task {name}, expected one of {known}")]
    Task {
        /// What was asked for.
        name: String,
        /// The tasks that are there.
        known: String,
    },
}
