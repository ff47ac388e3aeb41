//! The trajectory: one finished attempt at a question.

use serde::{Deserialize, Serialize};

use crate::{Object, Record, Result};

/// One finished attempt at one question: the conversation, its outcome and its cost.
///
/// Result rows of the published harness (`predicted_answer`, `full_response`, `reward`, `error`) are read too.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "schema", rename = "xgraft.trajectory/1")]
pub struct Trajectory {
    /// The id of the question.
    pub question: String,
    /// The task of the question.
    pub task: String,
    /// The model that answered, as the endpoint names it.
    pub model: String,
    /// The compared variant: `base`, `tuned`, `A-r32`.
    pub arm: String,
    /// Which repetition of the evaluation, `0` for the first.
    pub run: String,
    /// The sampling seed that was sent.
    pub seed: u64,
    /// The conversation in order, as sent and received.
    pub messages: Vec<Message>,
    /// The answer that was taken from the conversation; none where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The question's reference answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The official score, 0 to 1; none where the class is infrastructure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// How it ended.
    pub class: Class,
    /// Why, where the class does not say it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Programs that were run for the model.
    pub executions: u64,
    /// Tokens, as the endpoint counts them, summed over the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Measured by the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What.
    pub content: String,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the model is told before anything else.
    System,
    /// Who asks.
    User,
    /// The model. Observations of agent A1 are messages of the assistant too.
    Assistant,
    /// A tool that the model called.
    Tool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The official score is 1.
    Right,
    /// There is an answer, and its score is 0.
    Wrong,
    /// There is no answer, or none of the task's form. The score is 0.
    Unparsed,
    /// A limit was reached first: context, tokens, turns or time. The score is 0.
    Overflow,
    /// The endpoint failed, not the model. There is no score, and the question is asked again.
    Infrastructure,
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, summed over the requests.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

/// How long it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Milliseconds from the first request to the last byte.
    pub total_ms: f64,
    /// Requests that were answered.
    pub turns: u64,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

impl Class {
    /// All classes, in the order of tables.
    pub const ALL: [Self; 5] = [
        Self::Right,
        Self::Wrong,
        Self::Unparsed,
        Self::Overflow,
        Self::Infrastructure,
    ];

    /// The word of the files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Unparsed => "unparsed",
            Self::Overflow => "overflow",
            Self::Infrastructure => "infrastructure",
        }
    }

    /// Whether it counts in accuracy.
    #[must_use]
    pub fn is_scored(self) -> bool {
        self != Self::Infrastructure
    }
}

impl Record for Trajectory {
    const SCHEMA: &'static str = "xgraft.trajectory/1";
    /// The result rows of the published harness name none.
    const NEEDS_SCHEMA: bool = false;

    fn from_object(object: &mut Object) -> Result<Self> {
        if object.has("question") {
            own(object)
        } else {
            published(object)
        }
    }
}

fn own(object: &mut Object) -> Result<Trajectory> {
    let class = "one of right, wrong, unparsed, overflow, infrastructure";
    Ok(Trajectory {
        question: object.text("question")?,
        task: object.text("task")?,
        model: object.text("model")?,
        arm: object.text("arm")?,
        run: object.text("run")?,
        seed: object.number("seed")?,
        messages: object.decode("messages", "a list of messages with role and content")?,
        answer: object.optional("answer", "a string")?,
        reference: object.optional("reference", "a string")?,
        score: object.optional("score", "a number")?,
        class: object.decode("class", class)?,
        detail: object.optional("detail", "a string")?,
        executions: object
            .optional("executions", "a whole number from 0")?
            .unwrap_or(0),
        usage: object.optional("usage", "prompt_tokens and completion_tokens")?,
        timing: object.optional("timing", "total_ms and turns")?,
    })
}

/// A result row of the published harness. It calls an attempt without an exception a success, so the class comes from the
/// reward; its `full_response` is the whole conversation in one text.
fn published(object: &mut Object) -> Result<Trajectory> {
    let prompt = object.text("prompt")?;
    let response: Option<String> = object.optional("full_response", "a string")?;
    let answer: Option<String> = object.optional("predicted_answer", "a string")?;
    let reward: Option<f64> = object.optional("reward", "a number")?;
    let error: Option<String> = object.optional("error", "a string")?;
    let seconds: Option<f64> = object.optional("execution_time", "a number")?;
    let class = class_of(error.as_deref(), answer.is_some(), reward);
    Ok(Trajectory {
        question: object.number("instance_id")?.to_string(),
        task: object.text("task_name")?,
        model: String::new(),
        arm: object
            .optional("agent_type", "a string")?
            .unwrap_or_default(),
        run: "0".to_owned(),
        seed: 0,
        messages: vec![
            Message::new(Role::User, prompt),
            Message::new(Role::Assistant, response.unwrap_or_default()),
        ],
        answer,
        reference: object.optional("answer", "a string")?,
        score: reward.filter(|_| class.is_scored()),
        class,
        detail: error,
        executions: 0,
        usage: None,
        timing: seconds.map(|seconds| Timing {
            total_ms: 1e3 * seconds,
            turns: 0,
        }),
    })
}

fn class_of(error: Option<&str>, answered: bool, reward: Option<f64>) -> Class {
    let error = error.filter(|text| !text.is_empty()).map(str::to_lowercase);
    match (error, reward) {
        (Some(text), _) if text.contains("max token") || text.contains("context length") => {
            Class::Overflow
        }
        (Some(_), _) => Class::Infrastructure,
        (None, Some(reward)) if answered && reward > 0.5 => Class::Right,
        (None, Some(_)) if answered => Class::Wrong,
        (None, _) => Class::Unparsed,
    }
}
