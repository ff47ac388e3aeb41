//! One request on its way through the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::adapters::{AdapterVersion, BASE};
use super::blocks::Prefix;
use super::gate::Ticket;
use super::{Event, Finish, FinishReason, Logprobs, Request, TokenId, TopLogprobs, Usage};
use crate::sampling::{History, has_penalties};

/// A request, its tokens so far, and what of them is computed.
///
/// It holds blocks exactly while it runs. What a preemption takes from it is the blocks alone: they are computed again
/// from the tokens, which gives the same numbers.
pub(crate) struct Sequence<A> {
    pub(crate) request: Request,
    pub(crate) adapter: Option<Arc<AdapterVersion<A>>>,
    /// Prompt and output.
    pub(crate) tokens: Vec<TokenId>,
    /// How many of the tokens have keys and values in the blocks.
    pub(crate) computed: usize,
    pub(crate) blocks: Vec<u32>,
    /// Of the full blocks of `tokens`, as far as they were asked for.
    prefixes: Vec<Prefix>,
    /// How many blocks were offered to others, or came from them.
    pub(crate) published: usize,
    /// Its number in the order of arrival, which decides who goes first.
    pub(crate) arrival: u64,
    /// Its reader is behind, so nothing is computed for it.
    pub(crate) paused: bool,
    pub(crate) history: Option<History>,
    /// The logprobs of the prompt's tokens so far, if they are wanted and not sent yet.
    pub(crate) prompt_logprobs: Option<Vec<Option<Logprobs>>>,
    /// Held until it is admitted for the first time.
    pub(crate) ticket: Option<Ticket>,
    /// Whether its prompt was computed before: after a preemption it is not counted again.
    pub(crate) prompt_done: bool,
    /// Why its last token is the last one.
    end: Option<FinishReason>,
    events: mpsc::Sender<Event>,
    submitted: Instant,
    queued: Option<Duration>,
    cached: usize,
}

impl<A> Sequence<A> {
    /// The output so far goes through the constraint and the penalties here, on the caller's thread.
    pub(crate) fn new(
        request: Request,
        adapter: Option<Arc<AdapterVersion<A>>>,
        ticket: Ticket,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let history = has_penalties(&request.sampling).then(|| History::new(&request.prompt));
        let wants_prompt = request.prompt_logprobs != TopLogprobs::None;
        let generated = request.generated.clone();
        let mut sequence = Self {
            tokens: request.prompt.to_vec(),
            prompt_logprobs: wants_prompt.then(|| vec![None]),
            request,
            adapter,
            computed: 0,
            blocks: Vec::new(),
            prefixes: Vec::new(),
            published: 0,
            arrival: 0,
            paused: false,
            history,
            ticket: Some(ticket),
            prompt_done: false,
            end: None,
            events,
            submitted: Instant::now(),
            queued: None,
            cached: 0,
        };
        generated.into_iter().for_each(|token| sequence.push(token));
        sequence
    }

    pub(crate) fn prompt_len(&self) -> usize {
        self.request.prompt.len()
    }

    /// Tokens generated, here and before.
    pub(crate) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_len()
    }

    /// Tokens that are to be computed before the next one can be chosen.
    pub(crate) fn need(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Blocks that its tokens fill, the last one perhaps in part.
    pub(crate) fn blocks_needed(&self, block_tokens: usize) -> usize {
        self.tokens.len().div_ceil(block_tokens)
    }

    /// It runs, and its next token has no place in its blocks.
    pub(crate) fn lacks_block(&self, block_tokens: usize) -> bool {
        !self.blocks.is_empty() && self.blocks.len() < self.blocks_needed(block_tokens)
    }

    /// The first position whose row of logits is wanted for a logprob of the prompt.
    pub(crate) fn first_prompt_row(&self) -> Option<usize> {
        let known = self.prompt_logprobs.as_ref()?.len();
        (known < self.prompt_len()).then(|| known - 1)
    }

    /// Rows of logits that are wanted if the next `count` tokens are computed: those of the last so many of them.
    pub(crate) fn rows(&self, count: usize) -> usize {
        let end = self.computed + count;
        let last = usize::from(end == self.tokens.len());
        let first = self.first_prompt_row().unwrap_or(end).max(self.computed);
        end.saturating_sub(first).max(last)
    }

    /// How many tokens can be computed with so many rows of logits for the prompt's logprobs.
    pub(crate) fn within_rows(&self, rows: usize) -> usize {
        match self.first_prompt_row() {
            Some(first) => (first.saturating_sub(self.computed) + rows).min(self.need()),
            None => self.need(),
        }
    }

    /// The generation that marks its blocks.
    pub(crate) fn generation(&self) -> u64 {
        self.adapter
            .as_ref()
            .map_or(BASE, |version| version.generation)
    }

    /// The digests of the first `count` full blocks.
    pub(crate) fn prefixes(&mut self, count: usize, block_tokens: usize) -> &[Prefix] {
        while self.prefixes.len() < count {
            let at = self.prefixes.len() * block_tokens;
            let tokens = &self.tokens[at..at + block_tokens];
            let prefix = match self.prefixes.last() {
                Some(last) => last.child(tokens),
                None => Prefix::root(self.generation()).child(tokens),
            };
            self.prefixes.push(prefix);
        }
        &self.prefixes[..count]
    }

    /// Full blocks that may come from others: the last token is always computed, and every row that is wanted.
    pub(crate) fn shareable(&self, block_tokens: usize) -> usize {
        let last = self.tokens.len() - 1;
        self.first_prompt_row().unwrap_or(last).min(last) / block_tokens
    }

    /// It was admitted; `cached` of its tokens were found. True the first time.
    pub(crate) fn admitted(&mut self, cached: usize) -> bool {
        self.computed = cached;
        let first = self.ticket.take().is_some();
        if first {
            self.queued = Some(self.submitted.elapsed());
            self.cached = cached.min(self.prompt_len());
        }
        first
    }

    /// Takes the next token; [`Sequence::exhausted`] tells what follows.
    pub(crate) fn push(&mut self, token: TokenId) {
        self.tokens.push(token);
        self.note(token);
    }

    /// What a token of the output means for those after it.
    fn note(&mut self, token: TokenId) {
        if let Some(history) = &mut self.history {
            history.push(token);
        }
        let complete = match &mut self.request.constraint {
            Some(constraint) => guarded(|| constraint.accept(token)),
            None => Ok(false),
        };
        self.end = match complete {
            Err(message) => Some(FinishReason::Constraint(message)),
            Ok(_) if self.request.stop_tokens.contains(&token) => {
                Some(FinishReason::StopToken(token))
            }
            Ok(complete) => complete.then_some(FinishReason::Complete),
        };
    }

    /// Fills the mask of tokens that the constraint allows; false without a constraint.
    pub(crate) fn mask(&mut self, mask: &mut [u32]) -> Result<bool, String> {
        let Some(constraint) = &mut self.request.constraint else {
            return Ok(false);
        };
        mask.fill(0);
        guarded(|| constraint.allowed(mask))?;
        Ok(true)
    }

    /// Why nothing may follow the tokens that are there, if so.
    pub(crate) fn exhausted(&self, max_model_len: usize) -> Option<FinishReason> {
        let full =
            self.generated() >= self.request.max_tokens || self.tokens.len() >= max_model_len;
        let end = self.end.clone();
        end.or_else(|| full.then_some(FinishReason::Length))
    }

    /// The same before anything is computed, if nothing is wanted of the prompt itself.
    pub(crate) fn exhausted_at_once(&self, max_model_len: usize) -> Option<FinishReason> {
        let wants_prompt = self.prompt_logprobs.is_some();
        self.exhausted(max_model_len).filter(|_| !wants_prompt)
    }

    /// Nobody waits for its events any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// Pauses when there is no room for a token and the end, goes on when half of the buffer is free.
    pub(crate) fn pause_or_resume(&mut self) {
        let least = if self.paused {
            self.events.max_capacity() / 2
        } else {
            2
        };
        self.paused = self.events.capacity() < least;
    }

    /// Sends an event; there is room, or nobody waits for it.
    pub(crate) fn send(&self, event: Event) {
        let sent = self.events.try_send(event);
        debug_assert!(!matches!(sent, Err(mpsc::error::TrySendError::Full(_))));
    }

    /// Sends the last event.
    pub(crate) fn finish(&self, reason: FinishReason) {
        self.send(Event::Finished(Finish {
            reason,
            usage: Usage {
                prompt: self.prompt_len(),
                cached: self.cached,
                generated: self.generated(),
            },
            queued: self.queued.unwrap_or_else(|| self.submitted.elapsed()),
        }));
    }
}

/// A constraint is somebody else's code: its panic is the end of one request.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("the constraint panicked".to_owned()))
}
