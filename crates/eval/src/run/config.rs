//! What a run is, and how it is worked on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xgraft_dataset::Question;

use super::RunError;
use super::claim::beside;
use crate::agent::AgentConfig;
use crate::client::Sampling;
use crate::task::Tasks;

/// The plan's file in a run's folder.
const FILE: &str = "run.json";

/// What is measured. Two processes may work on one run only if all of this is the same for both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name and version of this file.
    pub schema: String,
    /// The model, as the endpoint names it.
    pub model: String,
    /// The compared variant: `base`, `tuned`, `A-r32`.
    pub arm: String,
    /// BLAKE3 of the questions that are asked.
    pub data: String,
    /// Questions that are asked.
    pub questions: usize,
    /// How often each is asked.
    pub repeat: u32,
    /// The number that everything random begins with.
    pub seed: u64,
    /// The questions were made up in the form of the tasks, and say nothing of a model's knowledge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
    /// How a question is put and scored.
    pub tasks: Tasks,
    /// What the server does with a conversation.
    pub sampling: Sampling,
    /// When an attempt is over.
    pub limits: Limits,
    /// The agent; none asks once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentConfig>,
    /// What the model is told first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// When an attempt is over, and counts as overflow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Seconds of answers and programs, without the time in which the endpoint failed.
    pub seconds: u64,
    /// Tokens that the model may write, over all its answers.
    pub tokens: u64,
    /// Answers of the model.
    pub turns: u64,
}

/// How a run is worked on; no part of what it measures.
#[derive(Clone, Debug)]
pub struct Work {
    /// The folder of the run.
    pub out: PathBuf,
    /// Questions in work at a time.
    pub concurrency: usize,
    /// How long a process of another host may be silent before its questions are taken over.
    pub lease: Duration,
    /// How long one answer may take.
    pub request_timeout: Duration,
    /// What is done when the endpoint fails.
    pub retries: Retries,
}

/// What is done when the endpoint fails.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// How often a request is sent.
    pub attempts: u32,
    /// The wait after the first failure; it doubles each time.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 8,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
        }
    }
}

impl Plan {
    /// The value of `schema`.
    pub const SCHEMA: &'static str = "xgraft.run/1";

    /// BLAKE3 of questions, for [`Self::data`].
    #[must_use]
    pub fn digest(questions: &[Question]) -> String {
        let mut hasher = blake3::Hasher::new();
        for question in questions {
            for part in [
                &question.id,
                &question.task,
                &question.prompt,
                &question.answer,
            ] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Whether the plan in a run's folder says that its questions are synthetic; a folder without a plan says nothing.
    pub(crate) fn is_synthetic(run: &Path) -> bool {
        let file = std::fs::read(run.join(FILE)).unwrap_or_default();
        let plan: serde_json::Value = serde_json::from_slice(&file).unwrap_or_default();
        plan["synthetic"] == true
    }

    /// Writes the plan into a new folder, or finds it there.
    pub(crate) fn settle(&self, out: &Path) -> Result<(), RunError> {
        for folder in ["events", "claims", "workers"] {
            let folder = out.join(folder);
            std::fs::create_dir_all(&folder).map_err(RunError::io("create", &folder))?;
        }
        let path = out.join(FILE);
        let encode = |source| RunError::Encode { source };
        let mut bytes = serde_json::to_vec_pretty(self).map_err(encode)?;
        bytes.push(b'\n');
        if !path.exists() {
            let mine = beside(&path);
            std::fs::write(&mine, &bytes).map_err(RunError::io("write", &mine))?;
            // Of two that begin together, the first to link it is right.
            let linked = std::fs::hard_link(&mine, &path);
            std::fs::remove_file(&mine).map_err(RunError::io("remove", &mine))?;
            match linked {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(RunError::io("create", &path)(error)),
            }
        }
        self.compare(&path)
    }

    fn compare(&self, path: &Path) -> Result<(), RunError> {
        let found = std::fs::read(path).map_err(RunError::io("read", path))?;
        let found: serde_json::Value =
            serde_json::from_slice(&found).map_err(|source| RunError::Event {
                at: path.display().to_string(),
                source,
            })?;
        let mine = serde_json::to_value(self).map_err(|source| RunError::Encode { source })?;
        let fields = mine.as_object().into_iter().chain(found.as_object());
        let names = fields.flat_map(|fields| fields.keys());
        for name in names {
            if mine.get(name) != found.get(name) {
                let text = |value: Option<&serde_json::Value>| {
                    let text = value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                    text.chars().take(200).collect::<String>()
                };
                return Err(RunError::OtherRun {
                    path: path.to_owned(),
                    field: name.clone(),
                    expected: text(mine.get(name)),
                    found: text(found.get(name)),
                });
            }
        }
        Ok(())
    }
}
