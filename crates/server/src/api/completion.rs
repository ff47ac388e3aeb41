//! `/v1/completions`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::error::Result;
use super::fields::Fields;
use super::logprobs::{Lists, PromptLogprobs, Spelling, TokenLists};
use super::neutral;
use super::parameters::{Parameters, ids_of, max_tokens, top_logprobs};
use super::stream::{Events, Gone};
use crate::api::answer::Answer;
use crate::app::App;
use crate::engine::{Logprobs, TokenEvent, TokenId, TopLogprobs};
use crate::generate::{End, Job, Piece, Plan, Run, StopReason, Text, Update, UsageCount};
use crate::grammar::Thinking;

/// Tokens of an answer if nobody says how many; OpenAI's own.
const DEFAULT_MAX_TOKENS: usize = 16;

/// What a request's answer needs besides its tokens.
#[derive(Debug)]
pub(crate) struct Completion {
    job: Job,
    /// The texts of the prompts, if they are part of the answer.
    echo: Option<Vec<String>>,
    prompt_logprobs: bool,
}

impl Answer for Completion {
    type Whole = Whole;

    fn job(&self) -> &Job {
        &self.job
    }

    async fn whole(&self, run: &mut Run<'_>) -> Result<Whole> {
        let mut answers: Vec<Growing> = (0..self.job.choices())
            .map(|_| Growing::default())
            .collect();
        for (index, answer) in answers.iter_mut().enumerate() {
            answer.text.push_str(self.echo_of(index));
        }
        while let Some(update) = run.next().await {
            match update? {
                (_, Update::Resumed(_)) => {}
                (index, Update::Prompt(logprobs)) => {
                    self.echo_logprobs(index, &logprobs, &mut answers[index].lists);
                    answers[index].prompt = Some(logprobs).filter(|_| self.prompt_logprobs);
                }
                (index, Update::Piece(piece)) => self.add(&mut answers[index], piece),
            }
        }
        Ok(Whole {
            answers,
            usage: run.usage(),
        })
    }

    fn write(&self, whole: Whole) -> serde_json::Result<String> {
        let answers = whole.answers.iter().enumerate();
        serde_json::to_string(&Body {
            head: self.job.head("text_completion"),
            choices: answers
                .map(|(index, answer)| self.choice(index, answer))
                .collect(),
            system_fingerprint: (),
            usage: self.job.usage(whole.usage),
        })
    }

    async fn events(&self, run: &mut Run<'_>, events: &Events) -> Result<(), Gone> {
        let mut states: Vec<State> = (0..self.job.choices()).map(|_| State::default()).collect();
        loop {
            let update = tokio::select! {
                update = run.next() => update,
                () = events.closed() => return Err(Gone),
            };
            let (index, piece) = match update {
                None => break,
                Some(Err(error)) => return events.fail(&error).await,
                Some(Ok((_, Update::Resumed(_)))) => continue,
                Some(Ok((index, Update::Prompt(logprobs)))) => {
                    self.echo_logprobs(index, &logprobs, &mut states[index].lists);
                    continue;
                }
                Some(Ok((index, Update::Piece(piece)))) => (index, piece),
            };
            if let Some(chunk) = self.chunk(index, piece, &mut states[index], run) {
                events.send(&chunk).await?;
            }
        }
        let usage = self.job.usage_chunk("text_completion", run.usage());
        events.done(usage.as_ref()).await
    }
}

impl Completion {
    /// Everything up to the engine's door; takes a while and must not run on an async worker.
    pub(crate) fn prepare(app: &App, id: &str, body: &[u8]) -> Result<(Self, Plan)> {
        let mut fields = Fields::parse(body)?;
        let card = app.engine.model();
        let mut parameters = Parameters::take(&mut fields, &app.config, card)?;
        parameters.max_tokens = max_tokens(&mut fields, "max_tokens", card)?;
        let logprobs = top_logprobs(&mut fields, "logprobs", &app.config)?;
        let add_special = fields.flag("add_special_tokens", true)?;
        let echo = fields.flag("echo", false)?;
        if echo && parameters.continuation.is_some() {
            return Err(fields.invalid("echo", "not with `continue_from`"));
        }
        let prompts = prompts(app, &mut fields, add_special)?;
        fields.finish(neutral::COMPLETION)?;
        let prompt_logprobs = parameters.prompt_logprobs != TopLogprobs::None;
        if echo && !prompt_logprobs {
            parameters.prompt_logprobs = logprobs;
        }
        let echo = echo.then(|| {
            prompts
                .iter()
                .map(|ids| app.tokenizer.decode(ids, parameters.skip_special))
        });
        let echo = echo.map(|texts| texts.map(Result::unwrap_or_default).collect());
        let text = Text {
            form: None,
            thinking: Thinking::Over,
            default_max_tokens: Some(DEFAULT_MAX_TOKENS),
            prompt_only: echo.is_some(),
            prompt: "prompt",
        };
        let job = Job::new(app, id, &parameters, prompts, logprobs)?;
        let plan = Plan::new(app, &job, parameters, &text)?;
        Ok((
            Self {
                job,
                echo,
                prompt_logprobs,
            },
            plan,
        ))
    }

    fn add(&self, answer: &mut Growing, piece: Piece) {
        answer.text.push_str(&piece.text);
        answer.ids.extend(piece.tokens.iter().map(|token| token.id));
        self.push_logprobs(piece.tokens, &mut answer.lists);
        answer.end = piece.end.or(answer.end.take());
    }

    fn choice<'a>(&'a self, index: usize, answer: &'a Growing) -> ChoiceBody<'a> {
        let prompt = self.job.prompt_of(index);
        let prompt_logprobs = answer.prompt.as_deref().map(|logprobs| PromptLogprobs {
            spelling: self.spelling(),
            ids: prompt,
            logprobs,
        });
        let return_ids = self.job.return_token_ids;
        ChoiceBody {
            index,
            text: &answer.text,
            logprobs: self
                .wants_logprobs()
                .then(|| answer.lists.spelled(self.spelling())),
            finish_reason: answer.end.as_ref().map(|end| end.reason),
            stop_reason: answer.end.as_ref().and_then(|end| end.stop_reason.as_ref()),
            prompt_logprobs,
            token_ids: return_ids.then_some(&answer.ids),
            prompt_token_ids: return_ids.then_some(&**prompt),
        }
    }

    /// What a piece adds, with the prompt before the first one, unless it adds nothing that the request wants to see.
    fn chunk(&self, index: usize, piece: Piece, state: &mut State, run: &Run<'_>) -> Option<Value> {
        let first = !std::mem::replace(&mut state.begun, true);
        let ids: Vec<TokenId> = piece.tokens.iter().map(|token| token.id).collect();
        self.push_logprobs(piece.tokens, &mut state.lists);
        let text = if first {
            self.echo_of(index).to_owned() + &piece.text
        } else {
            piece.text
        };
        let has_tokens = !ids.is_empty() && (self.job.return_token_ids || self.wants_logprobs());
        if text.is_empty() && piece.end.is_none() && !has_tokens {
            return None;
        }
        let mut choice = Map::new();
        choice.insert("index".into(), index.into());
        choice.insert("text".into(), text.into());
        let spelling = self.spelling();
        let logprobs = self.wants_logprobs().then(|| state.lists.take(&spelling));
        let logprobs = logprobs.map(|lists| json!(lists.spelled(spelling)));
        choice.insert("logprobs".into(), logprobs.into());
        choice.insert(
            "finish_reason".into(),
            piece.end.as_ref().map(|end| end.reason).into(),
        );
        choice.insert(
            "stop_reason".into(),
            json!(piece.end.and_then(|end| end.stop_reason)),
        );
        if self.job.return_token_ids {
            choice.insert("token_ids".into(), ids.into());
            if first {
                choice.insert(
                    "prompt_token_ids".into(),
                    json!(**self.job.prompt_of(index)),
                );
            }
        }
        let mut event = self.job.head("text_completion");
        event.insert("choices".into(), vec![Value::Object(choice)].into());
        if self.job.streaming().continuous_usage {
            event.insert("usage".into(), self.job.usage(run.usage()));
        }
        Some(Value::Object(event))
    }

    fn echo_of(&self, index: usize) -> &str {
        let texts = self.echo.as_deref().unwrap_or_default();
        texts
            .get(index / (self.job.choices() / self.job.prompts.len()))
            .map_or("", String::as_str)
    }

    fn wants_logprobs(&self) -> bool {
        self.job.logprobs != TopLogprobs::None
    }

    fn spelling(&self) -> Spelling<'_> {
        Spelling::new(&self.job.tokenizer, self.job.tokens_as_ids)
    }

    fn push_logprobs(&self, tokens: Vec<TokenEvent>, lists: &mut TokenLists) {
        for token in tokens.into_iter().filter(|_| self.wants_logprobs()) {
            lists.push(token.id, token.logprobs);
        }
    }

    /// Echoed tokens stand in the lists of the answer.
    fn echo_logprobs(&self, index: usize, logprobs: &[Option<Logprobs>], lists: &mut TokenLists) {
        if self.echo.is_none() || !self.wants_logprobs() {
            return;
        }
        for (id, logprobs) in self.job.prompt_of(index).iter().zip(logprobs) {
            lists.push(*id, logprobs.clone());
        }
    }
}

/// All choices, with what they took.
#[derive(Debug)]
pub(crate) struct Whole {
    answers: Vec<Growing>,
    usage: UsageCount,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    head: Map<String, Value>,
    choices: Vec<ChoiceBody<'a>>,
    system_fingerprint: (),
    usage: Value,
}

#[derive(Serialize)]
struct ChoiceBody<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<Lists<'a>>,
    finish_reason: Option<&'static str>,
    stop_reason: Option<&'a StopReason>,
    prompt_logprobs: Option<PromptLogprobs<'a>>,
    token_ids: Option<&'a Vec<TokenId>>,
    prompt_token_ids: Option<&'a [TokenId]>,
}

/// A choice while it grows.
#[derive(Debug, Default)]
struct Growing {
    text: String,
    lists: TokenLists,
    ids: Vec<TokenId>,
    prompt: Option<Vec<Option<Logprobs>>>,
    end: Option<End>,
}

/// What was sent of a choice.
#[derive(Debug, Default)]
struct State {
    begun: bool,
    lists: TokenLists,
}

/// A text, a list of texts, ids, or a list of lists of ids.
fn prompts(app: &App, fields: &mut Fields, add_special: bool) -> Result<Vec<Arc<[TokenId]>>> {
    let text = |text: &str| Ok(app.encode("prompt", text, add_special)?.into());
    let form = "expected a string, token ids, or a list of either that is not empty";
    match fields.take("prompt") {
        Some(Value::String(prompt)) => Ok(vec![text(&prompt)?]),
        Some(Value::Array(list))
            if list.is_empty() || list.len() > app.config.max_choices && !list[0].is_number() =>
        {
            Err(fields.invalid(
                "prompt",
                format!("{form}, and at most {} of them", app.config.max_choices),
            ))
        }
        Some(Value::Array(list)) => {
            if let Some(ids) = ids_of(&list) {
                return Ok(vec![ids.into()]);
            }
            let one = |prompt: &Value| match prompt {
                Value::String(prompt) => text(prompt),
                Value::Array(ids) => ids_of(ids)
                    .map(Arc::from)
                    .ok_or_else(|| fields.invalid("prompt", form)),
                _ => Err(fields.invalid("prompt", form)),
            };
            list.iter().map(one).collect()
        }
        _ => Err(fields.invalid("prompt", form)),
    }
}
