//! One conversation: requests that are sent again when the endpoint fails, and the limits of an attempt.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use xgraft_dataset::{Message, Question, Role, Timing, Usage};

use super::config::{Plan, Work};
use super::progress::{Progress, Waiting};
use crate::client::{Ask, Client, ClientError, Kind, Said};

/// A conversation that is refused with so few tokens to follow is itself too long.
const FEWEST: u64 = 64;
/// How long an endpoint has to show that it is there.
const PROBE: Duration = Duration::from_secs(10);

/// What all conversations of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) work: Work,
    pub(crate) client: Client,
    pub(crate) progress: Progress,
}

/// Why a conversation ends before its answer.
#[derive(Debug)]
pub(crate) enum End {
    /// A limit is reached, or the context is full.
    Overflow(String),
    /// The endpoint fails again and again.
    Infrastructure(String),
    /// The endpoint will answer no question.
    Refused(ClientError),
    /// Programs cannot be run.
    Sandbox(crate::sandbox::SandboxError),
}

/// A conversation and what it has cost.
pub(crate) struct Session<'a> {
    shared: &'a Shared,
    /// Who hears of failures: attempt, wait, words.
    retried: &'a (dyn Fn(u32, Duration, &str) + Send + Sync),
    pub(crate) messages: Vec<Message>,
    pub(crate) usage: Usage,
    pub(crate) turns: u64,
    pub(crate) executions: u64,
    pub(crate) seed: u64,
    spent: Duration,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        question: &Question,
        run: u32,
        retried: &'a (dyn Fn(u32, Duration, &str) + Send + Sync),
    ) -> Self {
        Self {
            shared,
            retried,
            messages: Vec::new(),
            usage: Usage::default(),
            turns: 0,
            executions: 0,
            seed: seed(shared.plan.seed, &question.id, run),
            spent: Duration::ZERO,
        }
    }

    pub(crate) fn shared(&self) -> &'a Shared {
        self.shared
    }

    pub(crate) fn push(&mut self, role: Role, content: impl Into<String>) {
        self.messages.push(Message::new(role, content));
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing {
            total_ms: self.spent.as_micros() as f64 / 1e3,
            turns: self.turns,
        }
    }

    /// What is left of the attempt's time.
    pub(crate) fn left(&self) -> Result<Duration, End> {
        let limit = Duration::from_secs(self.shared.plan.limits.seconds);
        match limit.checked_sub(self.spent) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(End::Overflow(format!("{} s are over", limit.as_secs()))),
        }
    }

    /// Counts time in which programs ran.
    pub(crate) fn spend(&mut self, time: Duration) {
        self.spent += time;
    }

    /// Lets the model speak.
    pub(crate) async fn ask(&mut self, stop: &[&str]) -> Result<Said, End> {
        let messages = std::mem::take(&mut self.messages);
        let said = self.ask_about(&messages, stop).await;
        self.messages = messages;
        said
    }

    /// Lets the model speak of something that is no part of the conversation.
    pub(crate) async fn ask_about(
        &mut self,
        messages: &[Message],
        stop: &[&str],
    ) -> Result<Said, End> {
        let limits = self.shared.plan.limits;
        if self.turns >= limits.turns {
            return Err(End::Overflow(format!("{} turns are over", limits.turns)));
        }
        let left = limits.tokens.saturating_sub(self.usage.completion_tokens);
        if left == 0 {
            return Err(End::Overflow(format!(
                "{} tokens are written",
                limits.tokens
            )));
        }
        let sampling = &self.shared.plan.sampling;
        let ask = Ask {
            model: &self.shared.plan.model,
            messages,
            sampling,
            max_tokens: sampling.max_tokens.min(left),
            seed: (self.seed + self.turns) % (1 << 31),
            stop,
        };
        let said = self.insist(&ask).await?;
        self.turns += 1;
        self.usage.prompt_tokens += said.usage.prompt_tokens;
        self.usage.completion_tokens += said.usage.completion_tokens;
        self.shared.progress.tokens(said.usage);
        Ok(said)
    }

    /// Asks until there is an answer or no hope.
    ///
    /// A server refuses a conversation that is too long together with the tokens that are asked for. Whether the conversation itself
    /// is, the next request says, which asks for half as many.
    async fn insist(&mut self, ask: &Ask<'_>) -> Result<Said, End> {
        let Shared { client, work, .. } = self.shared;
        let (mut ask, mut attempt) = (*ask, 1);
        loop {
            let left = self.left()?;
            let patience = left.min(work.request_timeout);
            let start = Instant::now();
            let waiting = self.shared.progress.sent();
            let error = match client.ask(&ask, patience).await {
                Ok(said) => {
                    waiting.answered();
                    self.spent += start.elapsed();
                    return Ok(said);
                }
                Err(error) => error,
            };
            let out_of_time = matches!(error, ClientError::Slow { .. }) && patience == left;
            // A model that never stops looks like a server that has stopped, but for what happens beside it.
            if out_of_time && self.is_alive(&waiting).await {
                self.spent += start.elapsed();
                self.left()?;
            }
            drop(waiting);
            match error.kind() {
                Kind::Overflow if ask.max_tokens > FEWEST => {
                    ask.max_tokens = (ask.max_tokens / 2).max(FEWEST);
                    let words = format!("{error}; asked again for {} tokens", ask.max_tokens);
                    (self.retried)(attempt, Duration::ZERO, &words);
                }
                Kind::Overflow => return Err(End::Overflow(error.to_string())),
                Kind::Refused => return Err(End::Refused(error)),
                Kind::Rejected => return Err(End::Infrastructure(error.to_string())),
                Kind::Passing if attempt >= work.retries.attempts => {
                    let words = format!("{error} ({attempt} times)");
                    return Err(End::Infrastructure(words));
                }
                Kind::Passing => {
                    let wait = self.wait(attempt, &error);
                    (self.retried)(attempt, wait, &error.to_string());
                    sleep(wait).await;
                    attempt += 1;
                }
            }
        }
    }

    /// Whether the endpoint has answered others in the meantime, or, where nobody else waits, answers anything now.
    async fn is_alive(&self, waiting: &Waiting<'_>) -> bool {
        match waiting.others_answered() {
            Some(answered) => answered,
            None => self.shared.client.is_there(PROBE).await,
        }
    }

    /// Twice as long each time, and not the same for all questions; never shorter than the server asks for.
    fn wait(&self, attempt: u32, error: &ClientError) -> Duration {
        let retries = self.shared.work.retries;
        let doubled = retries.first.saturating_mul(1 << (attempt - 1).min(20));
        let share = (self.seed.wrapping_mul(u64::from(attempt) * 2 + 1) % 1000) as f64 / 1000.0;
        let wait = doubled.min(retries.longest).mul_f64(0.5 + 0.5 * share);
        wait.max(error.wait().unwrap_or_default())
    }
}

/// The seed of an attempt: the same whoever makes it, and whenever. Below 2³¹, which every server takes.
fn seed(seed: u64, id: &str, run: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&run.to_le_bytes());
    hasher.update(id.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes) >> 33
}
