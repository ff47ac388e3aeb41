//! What HTTP asks of an engine, and the events that come back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::TokenId;

/// Generates tokens for many requests at once.
///
/// Its work runs on threads of its own; every method returns at once but [`Engine::load_adapter`], which reads files
/// and must not be called on an async worker.
pub trait Engine: Send + Sync + 'static {
    /// What it serves.
    fn model(&self) -> &ModelCard;

    /// Queues a request, bound to the version of its adapter that is there now.
    ///
    /// # Errors
    /// [`Refused`], before anything was queued.
    fn submit(&self, request: Request) -> Result<Generation, Refused>;

    /// The adapters that can be asked for, in the order in which their names were first loaded.
    fn adapters(&self) -> Vec<AdapterCard>;

    /// Reads an adapter and gives it a name. Requests that run on an older version of that name go on with it.
    ///
    /// # Errors
    /// [`AdapterError::Exists`] if the name is taken and `replace` is false; [`AdapterError::Invalid`].
    fn load_adapter(
        &self,
        name: &str,
        dir: &Path,
        replace: bool,
    ) -> Result<AdapterCard, AdapterError>;

    /// Takes a name away. Requests that run on it go on.
    ///
    /// # Errors
    /// [`AdapterError::Unknown`].
    fn unload_adapter(&self, name: &str) -> Result<(), AdapterError>;

    /// What it does now and has done so far.
    fn stats(&self) -> Stats;

    /// Refuses new requests from now on; those that are queued or run go on.
    fn drain(&self);

    /// Why it can no longer work, if it cannot.
    fn failure(&self) -> Option<String>;
}

/// What an engine serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// Logits of a token.
    pub vocab_size: usize,
    /// The longest prompt and output together.
    pub max_model_len: usize,
}

/// One generation: one choice of one request.
pub struct Request {
    /// The prompt, at least one token.
    pub prompt: Arc<[TokenId]>,
    /// Tokens that were generated already, here or by another server: the generation goes on after them, exactly as it would
    /// have gone on there. They are not sent again, and count towards `max_tokens`.
    pub generated: Vec<TokenId>,
    /// The name of an adapter; the base alone without one.
    pub adapter: Option<String>,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Which of several choices of one request this is: part of the key of its random numbers.
    pub choice: u32,
    /// Tokens to generate at most; with none a generation that only wants the prompt's logprobs.
    pub max_tokens: usize,
    /// A stop token is not taken before so many.
    pub min_tokens: usize,
    /// Tokens that end the generation; the one that did is sent as its last.
    pub stop_tokens: Vec<TokenId>,
    /// Logprobs wanted with each token.
    pub logprobs: TopLogprobs,
    /// Logprobs wanted of the prompt's own tokens; such a prompt takes nothing from the prefix cache.
    pub prompt_logprobs: TopLogprobs,
    /// What the output must be, if it is bound to a grammar; it takes `generated` first.
    pub constraint: Option<Box<dyn Constraint>>,
}

/// How the next token is chosen from the logits: bias, penalties, temperature, then min-p, top-k and top-p.
///
/// [`sampling`](crate::sampling) says it exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; below 10⁻⁵ the largest is taken.
    pub temperature: f32,
    /// The smallest set of likeliest tokens whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// That many likeliest tokens, of equal ones those of lower number; 0 keeps all.
    pub top_k: u32,
    /// Tokens at least so likely as the likeliest one times this; 0 keeps all.
    pub min_p: f32,
    /// Taken from the logit of a token that was generated before.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time that it was generated before.
    pub frequency_penalty: f32,
    /// Divides a positive and multiplies a negative logit of a token of the prompt or the output; 1 does nothing.
    pub repetition_penalty: f32,
    /// Added to logits.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// The key of the random numbers: equal seed, choice and position give an equal number.
    pub seed: u64,
}

impl Sampling {
    /// The largest logit, untouched.
    #[must_use]
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// How many logprobs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopLogprobs {
    /// None at all.
    #[default]
    None,
    /// Of the token itself, and of so many of the likeliest ones.
    Best(usize),
    /// Of the whole vocabulary.
    All,
}

/// Which tokens may come next.
pub trait Constraint: Send {
    /// Sets the bit of each token that may come next; bit `i % 32` of word `i / 32`, words zeroed before.
    ///
    /// # Errors
    /// When the grammar fails; the generation ends with that message in a [`FinishReason::Constraint`].
    fn allowed(&mut self, mask: &mut [u32]) -> Result<(), String>;

    /// Takes the token that was chosen; true if the output is complete and must end.
    ///
    /// # Errors
    /// As [`Constraint::allowed`].
    fn accept(&mut self, token: TokenId) -> Result<bool, String>;
}

/// The events of one request. Dropping it cancels the request, whatever its state.
///
/// The channel is bounded: while nobody reads, the sequence waits and the others go on.
#[derive(Debug)]
pub struct Generation {
    /// [`Event::Prompt`] if it was asked for, tokens, and [`Event::Finished`]; the end without it means that the engine died.
    pub events: mpsc::Receiver<Event>,
}

/// What happened to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The logprobs of the prompt's tokens; nothing for the first one.
    Prompt(Vec<Option<Logprobs>>),
    /// The next token.
    Token(TokenEvent),
    /// The last event.
    Finished(Finish),
}

/// A token that was generated.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEvent {
    /// Its number.
    pub id: TokenId,
    /// Its logprobs, if they were asked for.
    pub logprobs: Option<Logprobs>,
}

/// Logarithms of probabilities, of the model's own logits before any penalty, bias or temperature.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token itself.
    pub logprob: f32,
    /// How many tokens are likelier.
    pub rank: u32,
    /// The likeliest ones, falling; equal ones by number.
    pub top: Vec<(TokenId, f32)>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// What it took.
    pub usage: Usage,
    /// How long it waited before its first computation.
    pub queued: Duration,
}

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// This token of [`Request::stop_tokens`] came.
    StopToken(TokenId),
    /// The constraint's output is complete.
    Complete,
    /// `max_tokens`, or the model's length.
    Length,
    /// The constraint failed or leaves no token to choose; for a person.
    Constraint(String),
    /// Something failed; for a person.
    Error(String),
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt: usize,
    /// Of the prompt, found in the prefix cache.
    pub cached: usize,
    /// Generated, those given with the request included.
    pub generated: usize,
}

/// Why a request was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Try again later.
    #[error("{waiting} requests wait already, the most that are let in")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// When a try makes sense.
        retry_after: Duration,
    },
    /// The server is about to end.
    #[error("the server is shutting down and takes no new requests")]
    Draining,
    /// The engine failed earlier.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// No adapter of that name.
    #[error("there is no adapter `{0}`")]
    UnknownAdapter(String),
    /// Prompt and output do not fit the model.
    #[error("the prompt has {prompt} tokens, and this model's maximum context length is {limit}")]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// The most that fit.
        limit: usize,
    },
    /// A token number outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab_size}")]
    UnknownToken {
        /// The number.
        id: TokenId,
        /// The vocabulary's size.
        vocab_size: usize,
    },
    /// A prompt without tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
}

/// An adapter that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterCard {
    /// Its name.
    pub name: String,
    /// Where it was read from.
    pub dir: PathBuf,
    /// Its largest rank.
    pub rank: usize,
    /// Which version of the name it is; no two adapters ever share one.
    pub generation: u64,
    /// Requests that wait or run on it.
    pub requests: usize,
}

/// Why an adapter was not loaded or unloaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdapterError {
    /// The name is taken.
    #[error("the adapter `{0}` is loaded already")]
    Exists(String),
    /// No adapter of that name.
    #[error("there is no adapter `{0}`")]
    Unknown(String),
    /// It cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// Gauges and counters of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Sequences that are computed now.
    pub running: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// Blocks of keys and values, in all.
    pub blocks: usize,
    /// Blocks that a sequence holds; cached ones that nobody holds are free.
    pub blocks_used: usize,
    /// Times that a sequence lost its blocks to another one.
    pub preemptions: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Prompt tokens found there.
    pub prefix_hits: u64,
    /// Prompt tokens computed or found.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generation_tokens: u64,
    /// Steps of the model.
    pub steps: u64,
}

impl std::fmt::Debug for Request {
    /// Says nothing of the tokens themselves.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("prompt_tokens", &self.prompt.len())
            .field("generated_tokens", &self.generated.len())
            .field("adapter", &self.adapter)
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}
