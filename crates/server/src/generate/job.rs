//! A request that is ready for the engine.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};
use xgraft_tokenizer::Tokenizer;

use super::{Run, TextOptions, UsageCount};
use crate::api::error::{ApiError, Result, quote};
use crate::api::parameters::{Continuation, Parameters, Streaming};
use crate::app::App;
use crate::chance::unix_time;
use crate::engine::{Constraint, Request, TokenId, TopLogprobs};
use crate::grammar::{Compiled, Thinking};
use crate::metrics::Watch;

/// What an endpoint decides besides the parameters.
#[derive(Debug)]
pub(crate) struct Text {
    /// Logprobs with each token.
    pub(crate) logprobs: TopLogprobs,
    /// In place of the request's own format.
    pub(crate) grammar: Option<TopLevelGrammar>,
    /// How an answer begins.
    pub(crate) thinking: Thinking,
    /// Tokens at most if the request does not say; all that fit without.
    pub(crate) default_max_tokens: Option<usize>,
    /// Whether an answer without a token makes sense.
    pub(crate) prompt_only: bool,
}

/// The engine's requests, one for each choice.
#[derive(Debug)]
pub(crate) struct Plan {
    requests: Vec<Request>,
    text: TextOptions,
    prompt_tokens: usize,
}

/// What an answer says besides its tokens.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    created: i64,
    model: String,
    n: usize,
    stream: Option<Streaming>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) prompts: Vec<Arc<[TokenId]>>,
    pub(crate) logprobs: TopLogprobs,
    pub(crate) return_token_ids: bool,
    pub(crate) tokens_as_ids: bool,
}

impl Job {
    /// Checks all that needs the prompt or the adapters, and compiles the grammar.
    pub(crate) fn new(app: &App, id: &str, parameters: Parameters, prompts: Vec<Arc<[TokenId]>>, text: Text) -> Result<(Self, Plan)> {
        let n = parameters.n as usize;
        let (model, adapter) = app.model_and_adapter(parameters.model.as_deref())?;
        let choices = prompts.len().saturating_mul(n);
        if choices > app.config.max_choices {
            let most = app.config.max_choices;
            return Err(ApiError::invalid("n", format!("{choices} choices asked for, at most {most} are given")));
        }
        let (eos_tokens, options) = text_options(app, &parameters);
        let job = Self {
            id: id.to_owned(),
            created: unix_time(),
            model,
            n,
            stream: parameters.stream,
            tokenizer: app.tokenizer.clone(),
            prompts,
            logprobs: text.logprobs,
            return_token_ids: parameters.return_token_ids,
            tokens_as_ids: parameters.tokens_as_ids,
        };
        let grammar = match (&text.grammar, &parameters.format) {
            (Some(grammar), _) => Some(app.compile("tools", grammar.clone(), text.thinking)?),
            (None, Some(format)) => Some(app.compile("response_format", format.grammar(), text.thinking)?),
            (None, None) => None,
        };
        let mut plan = Plan {
            requests: Vec::with_capacity(choices),
            text: options,
            prompt_tokens: job.prompts.iter().map(|prompt| prompt.len()).sum(),
        };
        let stop_tokens = [eos_tokens, parameters.stop_token_ids.clone()].concat();
        for prompt in &job.prompts {
            let max_tokens = max_tokens(app, &parameters, &text, prompt.len())?;
            for choice in 0..parameters.n {
                let request = Request {
                    prompt: prompt.clone(),
                    generated: Vec::new(),
                    adapter: adapter.clone(),
                    sampling: parameters.sampling.clone(),
                    choice,
                    max_tokens,
                    min_tokens: parameters.min_tokens,
                    stop_tokens: stop_tokens.clone(),
                    logprobs: text.logprobs,
                    prompt_logprobs: parameters.prompt_logprobs,
                    constraint: grammar.as_ref().map(Compiled::constraint),
                };
                plan.requests.push(request);
            }
        }
        if let Some(continuation) = parameters.continuation {
            plan.resume(continuation)?;
        }
        Ok((job, plan))
    }

    /// How many choices the answer has.
    pub(crate) fn choices(&self) -> usize {
        self.prompts.len() * self.n
    }

    /// The prompt of a choice.
    pub(crate) fn prompt_of(&self, choice: usize) -> &Arc<[TokenId]> {
        &self.prompts[choice / self.n]
    }

    /// How it is sent in pieces; only of use if it is.
    pub(crate) fn streaming(&self) -> Streaming {
        self.stream.unwrap_or(Streaming { include_usage: false, continuous_usage: false })
    }

    /// Whether it is sent in pieces.
    pub(crate) fn is_streamed(&self) -> bool {
        self.stream.is_some()
    }

    /// What every object of the answer begins with.
    pub(crate) fn head(&self, object: &str) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("id".into(), self.id.as_str().into());
        head.insert("object".into(), object.into());
        head.insert("created".into(), self.created.into());
        head.insert("model".into(), self.model.as_str().into());
        head
    }

    /// `usage`.
    pub(crate) fn usage(&self, count: UsageCount) -> Value {
        json!({
            "prompt_tokens": count.prompt,
            "total_tokens": count.prompt + count.generated,
            "completion_tokens": count.generated,
            "prompt_tokens_details": {"cached_tokens": count.cached},
        })
    }
}

impl Plan {
    /// Gives the only request what was generated before.
    fn resume(&mut self, continuation: Continuation) -> Result<()> {
        let [request] = &mut self.requests[..] else {
            return Err(ApiError::invalid("continue_from", "`continue_from`: one prompt at a time"));
        };
        if let Some(constraint) = &mut request.constraint {
            feed(&mut **constraint, &continuation.token_ids)?;
        }
        request.generated = continuation.token_ids;
        request.choice = continuation.choice;
        Ok(())
    }

    /// Queues everything.
    pub(crate) fn start<'t>(self, app: &App, tokenizer: &'t Tokenizer, watch: &Watch) -> Result<Run<'t>> {
        Run::start(&*app.engine, tokenizer, self.requests, &self.text, self.prompt_tokens, watch)
    }
}

/// The tokens that are the model's own end, and how a choice's text is made.
fn text_options(app: &App, parameters: &Parameters) -> (Vec<TokenId>, TextOptions) {
    let eos_tokens = match parameters.ignore_eos {
        true => Vec::new(),
        false => app.config.defaults.eos_tokens.clone(),
    };
    let options = TextOptions {
        stop: parameters.stop.clone(),
        include_stop: parameters.include_stop,
        skip_special: parameters.skip_special,
        min_tokens: parameters.min_tokens,
        eos_tokens: eos_tokens.clone(),
        stop_tokens: parameters.stop_token_ids.clone(),
    };
    (eos_tokens, options)
}

/// Tokens that may be generated after a prompt of `prompt` tokens.
fn max_tokens(app: &App, parameters: &Parameters, text: &Text, prompt: usize) -> Result<usize> {
    let limit = app.engine.model().max_model_len;
    let room = limit.saturating_sub(prompt);
    let too_long = |asked: usize| {
        let total = prompt + asked;
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, you requested {total} tokens \
             ({prompt} in the prompt, {asked} in the completion)"
        );
        ApiError::invalid("max_tokens", message)
    };
    let most = app.config.defaults.max_new_tokens.unwrap_or(usize::MAX);
    let max_tokens = match parameters.max_tokens {
        Some(0) if !text.prompt_only && parameters.prompt_logprobs == TopLogprobs::None => {
            return Err(ApiError::invalid("max_tokens", "`max_tokens`: expected at least 1"));
        }
        Some(asked) if asked > room => return Err(too_long(asked)),
        Some(0) => return Ok(0),
        Some(asked) => asked.min(most),
        None if room == 0 => return Err(too_long(1)),
        None => text.default_max_tokens.unwrap_or(usize::MAX).min(room).min(most),
    };
    if parameters.min_tokens > max_tokens {
        let message = format!("`min_tokens`: expected at most `max_tokens`, {max_tokens}");
        return Err(ApiError::invalid("min_tokens", message));
    }
    Ok(max_tokens)
}

fn feed(constraint: &mut dyn Constraint, ids: &[TokenId]) -> Result<()> {
    let taken = ids.iter().try_for_each(|id| constraint.accept(*id).map(drop));
    taken.map_err(|_| ApiError::invalid("continue_from", "`continue_from`: its tokens do not fit the format asked for"))
}

impl App {
    /// The name that the answer carries, and the adapter of that name.
    pub(crate) fn model_and_adapter(&self, asked: Option<&str>) -> Result<(String, Option<String>)> {
        let names = &self.config.model_names;
        match asked {
            None => Ok((names[0].clone(), None)),
            Some(name) if names.iter().any(|known| known == name) => Ok((name.to_owned(), None)),
            Some(name) if self.engine.adapters().iter().any(|card| card.name == name) => {
                Ok((name.to_owned(), Some(name.to_owned())))
            }
            Some(name) => Err(ApiError::not_found("model", format!("the model `{}` does not exist", quote(name)))),
        }
    }

    fn compile(&self, param: &str, grammar: TopLevelGrammar, thinking: Thinking) -> Result<Compiled> {
        let compiled = self.grammars.compile(grammar, thinking);
        compiled.map_err(|error| ApiError::invalid(param, format!("`{param}`: {}", first_line(&error))))
    }
}

/// Grammars are repeated in their errors; a line of it will do.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(512).collect()
}
