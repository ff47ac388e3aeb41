//! A request that is ready for the engine.

use xgraft_tokenizer::Tokenizer;

use super::run::{Queued, resume};
use super::{Choice, Job, Run, TextOptions};
use crate::api::error::{ApiError, Result};
use crate::api::parameters::{Continuation, Parameters};
use crate::app::App;
use crate::engine::{Constraint, Request, TokenId, TopLogprobs};
use crate::grammar::{Compiled, Form, Thinking};
use crate::metrics::Watch;

/// What an endpoint decides besides the parameters.
#[derive(Debug)]
pub(crate) struct Text {
    /// In place of the request's own format.
    pub(crate) form: Option<Form>,
    /// How an answer begins.
    pub(crate) thinking: Thinking,
    /// Tokens at most if the request does not say; all that fit without.
    pub(crate) default_max_tokens: Option<usize>,
    /// Whether an answer without a token makes sense.
    pub(crate) prompt_only: bool,
    /// The field of the request that the prompt came in.
    pub(crate) prompt: &'static str,
}

/// The engine's requests, one for each choice.
#[derive(Debug)]
pub(crate) struct Plan {
    requests: Vec<Request>,
    text: TextOptions,
    prompt_tokens: usize,
    /// The field of the request that the prompt came in.
    prompt: &'static str,
    /// The field of the request that says which form the text has.
    form: Option<&'static str>,
}

impl Plan {
    /// One request for each choice of the job. Checks all that needs the prompts' lengths, and compiles the grammar.
    pub(crate) fn new(app: &App, job: &Job, parameters: Parameters, text: &Text) -> Result<Self> {
        bounded_logprobs(app, job, &parameters, text)?;
        let form = text.form.as_ref().or(parameters.form.as_ref());
        let grammar = form
            .map(|form| app.grammars.compile(form, text.thinking))
            .transpose()?;
        let form = form.map(|form| form.param);
        let mut requests = Vec::with_capacity(job.choices());
        let options = text_options(app, &parameters);
        let stop_tokens = [&options.eos_tokens[..], &options.stop_tokens].concat();
        for prompt in &job.prompts {
            let max_tokens = max_tokens(app, &parameters, text, prompt.len())?;
            requests.extend((0..parameters.n).map(|choice| Request {
                prompt: prompt.clone(),
                generated: Vec::new(),
                adapter: job.adapter.clone(),
                sampling: parameters.sampling.clone(),
                choice,
                max_tokens,
                min_tokens: parameters.min_tokens,
                stop_tokens: stop_tokens.clone(),
                logprobs: job.logprobs,
                prompt_logprobs: parameters.prompt_logprobs,
                constraint: grammar.as_ref().map(Compiled::constraint),
            }));
        }
        let prompt_tokens = job.prompts.iter().map(|prompt| prompt.len()).sum();
        let plan = Self {
            requests,
            text: options,
            prompt_tokens,
            prompt: text.prompt,
            form,
        };
        match parameters.continuation {
            Some(continuation) => plan.resume(continuation, grammar.as_ref()),
            None => Ok(plan),
        }
    }

    /// Gives the only request what was generated before, which must fit the grammar.
    fn resume(mut self, continuation: Continuation, grammar: Option<&Compiled>) -> Result<Self> {
        let [request] = &mut self.requests[..] else {
            return Err(ApiError::invalid(
                "continue_from",
                "`continue_from`: one prompt at a time",
            ));
        };
        let (given, most) = (continuation.token_ids.len(), request.max_tokens);
        if given > most {
            let message = format!("{given} tokens are more than `max_tokens`, {most}");
            return Err(no_continuation(&message));
        }
        if let Some(grammar) = grammar {
            feed(&mut *grammar.constraint(), &continuation.token_ids)?;
        }
        request.generated = continuation.token_ids;
        request.choice = continuation.choice;
        Ok(self)
    }

    /// Gives all to the engine, or nothing if it refuses one. A continuation that is long takes a while.
    pub(crate) fn queue(self, app: &App, watch: &Watch) -> Result<Running> {
        let Self {
            requests,
            text,
            prompt_tokens,
            prompt,
            form,
        } = self;
        let queue = |request: Request| {
            let mut watch = watch.another();
            let generated = request.generated.clone();
            let mut choice = Choice::new(&app.tokenizer, text.clone());
            let (_, end) = resume(&mut choice, &generated);
            if choice.tokens() < generated.len() {
                let message = format!(
                    "token {} ends the answer, and others follow",
                    choice.tokens() - 1
                );
                return Err(no_continuation(&message));
            }
            let is_over =
                end.is_some() || !generated.is_empty() && generated.len() >= request.max_tokens;
            let generation = if is_over {
                None
            } else {
                Some(
                    app.engine
                        .submit(request)
                        .map_err(|refused| ApiError::refused(refused, prompt))?,
                )
            };
            if generation.is_some() {
                watch.queued();
            }
            Ok(Queued {
                generated,
                generation,
                watch,
            })
        };
        let choices = requests.into_iter().map(queue).collect::<Result<_>>()?;
        Ok(Running {
            choices,
            text,
            prompt_tokens,
            form,
        })
    }
}

/// What the engine works on. Dropping it cancels everything.
#[derive(Debug)]
pub(crate) struct Running {
    choices: Vec<Queued>,
    text: TextOptions,
    prompt_tokens: usize,
    form: Option<&'static str>,
}

impl Running {
    /// Makes text of the tokens.
    pub(crate) fn follow(self, tokenizer: &Tokenizer) -> Run<'_> {
        Run::new(
            tokenizer,
            &self.text,
            self.choices,
            self.prompt_tokens,
            self.form,
        )
    }
}

/// How a choice's text is made.
fn text_options(app: &App, parameters: &Parameters) -> TextOptions {
    let eos_tokens = if parameters.ignore_eos {
        &[][..]
    } else {
        &app.config.defaults.eos_tokens
    };
    TextOptions {
        stop: parameters.stop.clone(),
        include_stop: parameters.include_stop,
        skip_special: parameters.skip_special,
        min_tokens: parameters.min_tokens,
        eos_tokens: eos_tokens.to_vec(),
        stop_tokens: parameters.stop_token_ids.clone(),
    }
}

/// Logprobs that an answer may have, of its prompts and its own tokens: about half a gigabyte of text.
const MOST_LOGPROBS: usize = 1 << 23;

fn bounded_logprobs(app: &App, job: &Job, parameters: &Parameters, text: &Text) -> Result<()> {
    let vocab_size = app.engine.model().vocab_size;
    let each = |wanted| match wanted {
        TopLogprobs::None => 0,
        TopLogprobs::Best(count) => count.min(vocab_size) + 1,
        TopLogprobs::All => vocab_size,
    };
    let mut most: usize = 0;
    for prompt in &job.prompts {
        let own = max_tokens(app, parameters, text, prompt.len())?;
        // A stream sends them as they come.
        let own = if job.is_streamed() { own.min(1) } else { own };
        let of_prompt = prompt
            .len()
            .saturating_mul(each(parameters.prompt_logprobs));
        let of_own = own.saturating_mul(each(job.logprobs));
        let choices = parameters.n as usize;
        most = most.saturating_add((of_prompt + of_own).saturating_mul(choices));
    }
    if most <= MOST_LOGPROBS {
        return Ok(());
    }
    let field = match parameters.prompt_logprobs {
        TopLogprobs::None => "logprobs",
        TopLogprobs::Best(_) | TopLogprobs::All => "prompt_logprobs",
    };
    let message = format!(
        "`{field}`: {most} logprobs asked for with these prompts, `max_tokens` and `n`, at most {MOST_LOGPROBS} are given"
    );
    Err(ApiError::invalid(field, message))
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
        let param = if room == 0 {
            text.prompt
        } else {
            parameters.max_tokens_field
        };
        ApiError::invalid(param, format!("`{param}`: {message}"))
    };
    let most = app.config.defaults.max_new_tokens.unwrap_or(usize::MAX);
    let max_tokens = match parameters.max_tokens {
        Some(0) if !text.prompt_only && parameters.prompt_logprobs == TopLogprobs::None => {
            let param = parameters.max_tokens_field;
            let message = "expected at least 1; 0 is for the logprobs or echo of a prompt";
            return Err(ApiError::invalid(param, format!("`{param}`: {message}")));
        }
        Some(asked) if asked > room => return Err(too_long(asked)),
        Some(0) => return Ok(0),
        Some(asked) => asked.min(most),
        None if room == 0 => return Err(too_long(1)),
        None => text
            .default_max_tokens
            .unwrap_or(usize::MAX)
            .min(room)
            .min(most),
    };
    if parameters.min_tokens > max_tokens {
        let message = format!("`min_tokens`: expected at most `max_tokens`, {max_tokens}");
        return Err(ApiError::invalid("min_tokens", message));
    }
    Ok(max_tokens)
}

fn feed(constraint: &mut dyn Constraint, ids: &[TokenId]) -> Result<()> {
    let taken = ids
        .iter()
        .try_for_each(|id| constraint.accept(*id).map(drop));
    taken.map_err(|_| no_continuation("they do not fit the format asked for"))
}

/// The ids that were given cannot be the beginning of an answer to this request.
fn no_continuation(message: &str) -> ApiError {
    const IDS: &str = "continue_from.token_ids";
    ApiError::invalid(IDS, format!("`{IDS}`: {message}"))
}
