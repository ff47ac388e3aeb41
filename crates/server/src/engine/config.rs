//! Limits of an engine.

/// How much is done at once, and how much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Sequences that are computed in one step.
    pub max_num_seqs: usize,
    /// Tokens that are computed in one step, of all sequences together: the longest that a running stream waits for prompts.
    pub max_step_tokens: usize,
    /// Requests that wait; more are refused.
    pub max_waiting: usize,
    /// The longest prompt and output together, if the model and its pool allow more.
    pub max_model_len: Option<usize>,
    /// Rows of logits in one step for logprobs of prompts, each of the vocabulary's size.
    pub max_prompt_rows: usize,
    /// Events that wait for the reader of a generation; with more its sequence pauses.
    pub event_buffer: usize,
    /// Whether prompts that begin alike share what was computed of them.
    pub prefix_cache: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_num_seqs: 64,
            max_step_tokens: 512,
            max_waiting: 1024,
            max_model_len: None,
            max_prompt_rows: 64,
            event_buffer: 64,
            prefix_cache: true,
        }
    }
}

/// Why an engine cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A limit that lets nothing through.
    #[error("{field} is {found}, must be at least {least}")]
    TooSmall {
        /// The limit.
        field: &'static str,
        /// Its value.
        found: usize,
        /// What it must be.
        least: usize,
    },
    /// A limit that the model or its pool cannot keep.
    #[error(
        "{field} is {found}, must be at most {most}: the model's positions and the pool of keys and values give no more"
    )]
    TooLarge {
        /// The limit.
        field: &'static str,
        /// Its value.
        found: usize,
        /// What it may be.
        most: usize,
    },
    /// More than the machine has.
    #[error("the system does not give {bytes} bytes; ask for less")]
    Memory {
        /// What was asked for.
        bytes: usize,
    },
    /// The compute thread did not start.
    #[error("cannot start the engine's thread: {0}")]
    Thread(String),
}

impl EngineConfig {
    /// Checks that every limit lets something through: decoding must leave room for prompts in a step, and a pause must
    /// leave room for the last event.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let limits = [
            ("max_num_seqs", self.max_num_seqs, 1),
            (
                "max_step_tokens",
                self.max_step_tokens,
                self.max_num_seqs.saturating_add(1),
            ),
            ("max_prompt_rows", self.max_prompt_rows, 1),
            ("max_waiting", self.max_waiting, 1),
            ("event_buffer", self.event_buffer, 4),
            ("max_model_len", self.max_model_len.unwrap_or(2), 2),
        ];
        for (field, found, least) in limits {
            if found < least {
                return Err(ConfigError::TooSmall {
                    field,
                    found,
                    least,
                });
            }
        }
        Ok(())
    }
}
