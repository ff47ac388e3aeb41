//! An attempt, as it is annotated.

use serde::{Deserialize, Serialize};
use xgraft_dataset::{Class, Role, Trajectory};

/// Which attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The arm.
    pub arm: String,
    /// The repetition.
    pub run: String,
    /// The question.
    pub question: String,
}

impl Key {
    /// The key of an attempt.
    #[must_use]
    pub fn of(attempt: &Trajectory) -> Self {
        Self {
            arm: attempt.arm.clone(),
            run: attempt.run.clone(),
            question: attempt.question.clone(),
        }
    }
}

/// What annotation needs of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Which attempt.
    pub key: Key,
    /// The task.
    pub task: String,
    /// What was asked.
    pub prompt: String,
    /// The reference answer.
    pub reference: String,
    /// All that the model said.
    pub response: String,
    /// The answer that the official scorer was given.
    pub answer: Option<String>,
    /// How the attempt ended.
    pub class: Class,
}

impl Item {
    /// Takes out of an attempt what annotation needs. `None` without a reference answer.
    #[must_use]
    pub fn of(attempt: &Trajectory) -> Option<Self> {
        let said = |role: Role| {
            let all = attempt.messages.iter();
            all.filter(move |message| message.role == role)
                .map(|message| message.content.as_str())
        };
        Some(Self {
            key: Key::of(attempt),
            task: attempt.task.clone(),
            prompt: said(Role::User).next().unwrap_or_default().to_owned(),
            reference: attempt.reference.clone()?,
            response: said(Role::Assistant).collect::<Vec<_>>().join("\n\n"),
            answer: attempt.answer.clone(),
            class: attempt.class,
        })
    }
}
