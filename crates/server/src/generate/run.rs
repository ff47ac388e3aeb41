//! All choices of a request at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use xgraft_tokenizer::Tokenizer;

use super::{Choice, End, Piece, TextOptions};
use crate::api::error::{ApiError, Result};
use crate::engine::{Event, Finish, FinishReason, Generation, Logprobs, TokenEvent, TokenId};
use crate::metrics::Watch;

/// What happened to one choice.
#[derive(Debug)]
pub(crate) enum Update {
    /// It goes on after this text, which is not sent again.
    Resumed(String),
    /// The logprobs of its prompt are known.
    Prompt(Vec<Option<Logprobs>>),
    /// It has grown, or ended.
    Piece(Piece),
}

/// Tokens of a request so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UsageCount {
    /// Of its prompts, each once.
    pub(crate) prompt: usize,
    /// Of all choices.
    pub(crate) generated: usize,
    /// Of its prompts, found in the prefix cache, as far as is known.
    pub(crate) cached: usize,
}

/// The choices of a request while they are generated. Dropping it cancels those that have not ended.
#[derive(Debug)]
pub(crate) struct Run<'t> {
    lanes: Vec<Lane<'t>>,
    ready: VecDeque<(usize, Update)>,
    turn: usize,
    prompt_tokens: usize,
    /// The field of the request that says which form the text has.
    form: Option<&'static str>,
}

#[derive(Debug)]
struct Lane<'t> {
    choice: Choice<'t>,
    generation: Option<Generation>,
    watch: Watch,
    cached: usize,
}

/// A choice that the engine has, or that had ended already.
#[derive(Debug)]
pub(crate) struct Queued {
    /// What was generated before.
    pub(super) generated: Vec<TokenId>,
    /// Nothing if what was generated before is all.
    pub(super) generation: Option<Generation>,
    pub(super) watch: Watch,
}

impl<'t> Run<'t> {
    /// Follows these choices. `prompt_tokens`: of all prompts, each counted once.
    pub(super) fn new(
        tokenizer: &'t Tokenizer,
        text: &TextOptions,
        choices: Vec<Queued>,
        prompt_tokens: usize,
        form: Option<&'static str>,
    ) -> Self {
        let mut run = Self {
            lanes: Vec::with_capacity(choices.len()),
            ready: VecDeque::new(),
            turn: 0,
            prompt_tokens,
            form,
        };
        for choice in choices {
            run.add(Choice::new(tokenizer, text.clone()), choice);
        }
        run
    }

    fn add(&mut self, mut choice: Choice<'t>, queued: Queued) {
        let index = self.lanes.len();
        let Queued {
            generated,
            generation,
            watch,
        } = queued;
        let (text, end) = resume(&mut choice, &generated);
        if !text.is_empty() {
            self.ready.push_back((index, Update::Resumed(text)));
        }
        if generation.is_none() {
            let piece = match end {
                Some(_) => Piece {
                    end,
                    ..Piece::default()
                },
                None => choice.finish(&FinishReason::Length),
            };
            self.ready.push_back((index, Update::Piece(piece)));
        }
        self.lanes.push(Lane {
            choice,
            generation,
            watch,
            cached: 0,
        });
    }

    /// The next update and the choice that it is of; nothing once all have ended.
    ///
    /// # Errors
    /// The engine failed; the request is at an end.
    pub(crate) async fn next(&mut self) -> Option<Result<(usize, Update)>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
            }
            let (index, event) = poll_fn(|context| self.poll_event(context)).await?;
            match self.lanes[index].take(event, self.form) {
                Ok(Some(update)) => return Some(Ok((index, update))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Usage up to now.
    pub(crate) fn usage(&self) -> UsageCount {
        UsageCount {
            prompt: self.prompt_tokens,
            generated: self.lanes.iter().map(|lane| lane.choice.tokens()).sum(),
            cached: self.lanes.iter().map(|lane| lane.cached).max().unwrap_or(0),
        }
    }

    /// An event of any choice, each in its turn.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Option<Event>)>> {
        let count = self.lanes.len();
        let mut open = false;
        for index in (self.turn..count).chain(0..self.turn.min(count)) {
            if let Some(generation) = &mut self.lanes[index].generation {
                open = true;
                if let Poll::Ready(event) = generation.events.poll_recv(context) {
                    self.turn = (index + 1) % count;
                    return Poll::Ready(Some((index, event)));
                }
            }
        }
        if open {
            Poll::Pending
        } else {
            Poll::Ready(None)
        }
    }
}

impl Lane<'_> {
    fn take(&mut self, event: Option<Event>, form: Option<&'static str>) -> Result<Option<Update>> {
        match event {
            Some(Event::Prompt(logprobs)) => Ok(Some(Update::Prompt(logprobs))),
            Some(Event::Token(_)) if self.choice.has_ended() => Ok(None),
            Some(Event::Token(token)) => Ok(Some(Update::Piece(self.token(token)))),
            Some(Event::Finished(finish)) => self.finished(&finish, form),
            None => {
                self.generation = None;
                self.watch.ended("error");
                Err(ApiError::internal(
                    "the engine ended before the request did",
                ))
            }
        }
    }

    fn token(&mut self, token: TokenEvent) -> Piece {
        self.watch.token();
        let id = token.id;
        let piece = self.choice.push(token);
        if let Some(end) = &piece.end {
            self.watch.ended(end.reason);
            // A stop token ends the engine's work by itself, and its last event is on the way; a text does not.
            if !self.choice.ends_with(id) {
                self.generation = None;
            }
        }
        piece
    }

    fn finished(&mut self, finish: &Finish, form: Option<&str>) -> Result<Option<Update>> {
        self.generation = None;
        self.cached = finish.usage.cached;
        self.watch.started(finish.queued);
        if let FinishReason::Error(message) = &finish.reason {
            self.watch.ended("error");
            return Err(ApiError::internal(message.clone()));
        }
        if let (FinishReason::Constraint(_), Some(form)) = (&finish.reason, form) {
            self.watch.ended("error");
            return Err(ApiError::invalid(
                form,
                format!("`{form}`: no text goes on from here, or it takes too much to say which"),
            ));
        }
        if self.choice.has_ended() {
            return Ok(None);
        }
        let piece = self.choice.finish(&finish.reason);
        self.watch
            .ended(piece.end.as_ref().map_or("stop", |end| end.reason));
        Ok(Some(Update::Piece(piece)))
    }
}

/// Feeds a choice with what was generated before; its text, and its end if that was in it.
pub(super) fn resume(choice: &mut Choice<'_>, generated: &[TokenId]) -> (String, Option<End>) {
    let mut text = String::new();
    for id in generated {
        let piece = choice.push(TokenEvent {
            id: *id,
            logprobs: None,
        });
        text.push_str(&piece.text);
        if piece.end.is_some() {
            return (text, piece.end);
        }
    }
    (text, None)
}
