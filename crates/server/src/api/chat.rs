//! `/v1/chat/completions`.

use serde_json::{Map, Value, json};
use xgraft_tokenizer::Conversation;

use super::error::{ApiError, Result};
use super::fields::Fields;
use super::logprobs::Spelling;
use super::neutral;
use super::parameters::{Parameters, top_logprobs};
use super::stream::{Events, Gone};
use crate::chat::{Delta, Opening, Split, ToolDelta, messages};
use crate::engine::{Logprobs, TokenEvent, TokenId, TopLogprobs};
use crate::api::answer::Answer;
use crate::app::App;
use crate::generate::{End, Job, Piece, Plan, Run, Text, Update};
use crate::grammar::{Thinking, Tool, ToolCalls};
use crate::chance::{random_hex, unix_time};

/// What a request's answer needs besides its tokens.
#[derive(Debug)]
pub(crate) struct Chat {
    job: Job,
    opening: Opening,
    tools: Tools,
    include_reasoning: bool,
    /// A continuation has no first event.
    continued: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tools {
    /// Calls are text.
    Off,
    /// The model may call.
    Free { several: bool },
    /// It must, one of them.
    Required { several: bool },
    /// It must call this one, which clients do not take for its own decision.
    Named,
}

impl Tools {
    fn several(self) -> Option<bool> {
        match self {
            Self::Off => None,
            Self::Free { several } | Self::Required { several } => Some(several),
            Self::Named => Some(false),
        }
    }
}

impl Answer for Chat {
    fn job(&self) -> &Job {
        &self.job
    }

    async fn whole(&self, run: &mut Run<'_>) -> Result<Value> {
        let mut splits = self.split();
        let mut answers: Vec<Growing> = splits.iter().map(|_| Growing::default()).collect();
        let mut prompt_logprobs = None;
        while let Some(update) = run.next().await {
            match update? {
                (_, Update::Prompt(logprobs)) => prompt_logprobs = Some(logprobs),
                (index, Update::Resumed(text)) => drop(splits[index].push(&text, false)),
                (index, Update::Piece(piece)) => {
                    let delta = splits[index].push(&piece.text, piece.end.is_some());
                    answers[index].add(delta, piece);
                }
            }
        }
        let choices = answers.into_iter().zip(&splits).enumerate();
        let choices: Vec<Value> = choices.map(|(index, (answer, split))| self.choice(index, answer, split)).collect();
        Ok(self.body(choices, prompt_logprobs.as_deref(), run))
    }

    async fn events(&self, run: &mut Run<'_>, events: &Events) -> Result<(), Gone> {
        let mut splits = self.split();
        if !self.continued {
            for index in 0..splits.len() {
                events.send(&self.first(index, run)).await?;
            }
        }
        loop {
            let update = tokio::select! {
                update = run.next() => update,
                () = events.closed() => return Err(Gone),
            };
            let (index, piece) = match update {
                None => break,
                Some(Err(error)) => return events.fail(&error).await,
                Some(Ok((_, Update::Prompt(_)))) => continue,
                Some(Ok((index, Update::Resumed(text)))) => {
                    splits[index].push(&text, false);
                    continue;
                }
                Some(Ok((index, Update::Piece(piece)))) => (index, piece),
            };
            let delta = splits[index].push(&piece.text, piece.end.is_some());
            if let Some(chunk) = self.chunk(index, delta, &piece, &splits[index], run) {
                events.send(&chunk).await?;
            }
        }
        if self.job.streaming().include_usage {
            let mut last = self.job.head("chat.completion.chunk");
            last.insert("choices".into(), json!([]));
            last.insert("usage".into(), self.job.usage(run.usage()));
            events.send(&Value::Object(last)).await?;
        }
        events.done().await
    }
}

impl Chat {
    /// Everything up to the engine's door; takes a while and must not run on an async worker.
    pub(crate) fn prepare(app: &App, id: &str, body: &[u8]) -> Result<(Self, Plan)> {
        let mut fields = Fields::parse(body)?;
        let card = app.engine.model();
        let mut parameters = Parameters::take(&mut fields, &app.config, card)?;
        let limit = fields.count("max_completion_tokens", 0..=card.max_model_len)?;
        parameters.max_tokens = fields.count("max_tokens", 0..=card.max_model_len)?.or(limit);
        if limit.is_some() && parameters.max_tokens != limit {
            return Err(fields.invalid("max_tokens", "differs from `max_completion_tokens`"));
        }
        let logprobs = logprobs(&mut fields, app)?;
        let (tools, list, called) = tools(&mut fields)?;
        let include_reasoning = fields.flag("include_reasoning", true)?;
        let prompt = prompt(app, &mut fields, list.as_deref())?;
        fields.finish(neutral::CHAT)?;
        if called.is_some() && parameters.format.is_some() {
            return Err(ApiError::invalid("tool_choice", "`tool_choice`: a call that must come leaves no room for a format"));
        }
        let opening = opening(&prompt.text, app.config.split_reasoning);
        let thinking = match opening {
            Opening::Open => Thinking::Possible,
            Opening::Reasoning => Thinking::Begun,
            Opening::Content => Thinking::Over,
        };
        let grammar = called.map(|calls| calls.grammar());
        let continued = parameters.continuation.is_some();
        let ids = app.encode("messages", &prompt.text, prompt.add_special_tokens)?;
        let text = Text { logprobs, grammar, thinking, default_max_tokens: None, prompt_only: false };
        let (job, plan) = Job::new(app, id, parameters, vec![ids.into()], text)?;
        Ok((Self { job, opening, tools, include_reasoning, continued }, plan))
    }

    fn split(&self) -> Vec<Split> {
        let one = || Split::new(self.opening, self.tools.several());
        (0..self.job.choices()).map(|_| one()).collect()
    }

    fn finish_reason(&self, end: &End, split: &Split) -> &'static str {
        match self.tools {
            Tools::Free { .. } | Tools::Required { .. } if split.has_calls() && end.reason == "stop" => "tool_calls",
            _ => end.reason,
        }
    }

    fn body(&self, choices: Vec<Value>, prompt_logprobs: Option<&[Option<Logprobs>]>, run: &Run<'_>) -> Value {
        let mut body = self.job.head("chat.completion");
        body.insert("choices".into(), choices.into());
        body.insert("service_tier".into(), Value::Null);
        body.insert("system_fingerprint".into(), Value::Null);
        body.insert("usage".into(), self.job.usage(run.usage()));
        let prompt = &self.job.prompts[0];
        let spelling = self.spelling();
        let logprobs = prompt_logprobs.map(|logprobs| spelling.prompt(prompt, logprobs));
        body.insert("prompt_logprobs".into(), logprobs.unwrap_or_default());
        let ids = self.job.return_token_ids.then(|| json!(**prompt));
        body.insert("prompt_token_ids".into(), ids.unwrap_or_default());
        Value::Object(body)
    }

    fn choice(&self, index: usize, answer: Growing, split: &Split) -> Value {
        let Growing { delta, tokens, end } = answer;
        let reasoning = Some(delta.reasoning).filter(|text| self.include_reasoning && !text.is_empty());
        let content = Some(delta.content).filter(|text| !text.is_empty() || delta.calls.is_empty());
        let calls: Vec<Value> = delta.calls.iter().map(whole_call).collect();
        let ids = self.job.return_token_ids.then(|| ids(&tokens));
        json!({
            "index": index,
            "message": {
                "role": "assistant",
                "content": content,
                "refusal": null,
                "tool_calls": calls,
                "reasoning": reasoning,
                "reasoning_content": reasoning,
            },
            "logprobs": self.logprobs(&tokens),
            "finish_reason": end.as_ref().map(|end| self.finish_reason(end, split)),
            "stop_reason": end.and_then(|end| end.stop_reason),
            "token_ids": ids,
        })
    }

    /// Before any token: the role, and the prompt's ids if they are wanted.
    fn first(&self, index: usize, run: &Run<'_>) -> Value {
        let delta = json!({"role": "assistant", "content": ""});
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        let mut chunk = self.event(choice, run);
        if self.job.return_token_ids {
            chunk.insert("prompt_token_ids".into(), json!(*self.job.prompts[0]));
        }
        Value::Object(chunk)
    }

    /// What a piece adds, unless it adds nothing that the request wants to see.
    fn chunk(&self, index: usize, delta: Delta, piece: &Piece, split: &Split, run: &Run<'_>) -> Option<Value> {
        let logprobs = self.logprobs(&piece.tokens);
        let has_ids = self.job.return_token_ids && !piece.tokens.is_empty();
        if delta.is_empty() && piece.end.is_none() && logprobs.is_none() && !has_ids {
            return None;
        }
        let mut choice = Map::new();
        choice.insert("index".into(), index.into());
        choice.insert("delta".into(), self.delta(delta));
        choice.insert("logprobs".into(), logprobs.into());
        let reason = piece.end.as_ref().map(|end| self.finish_reason(end, split));
        choice.insert("finish_reason".into(), reason.into());
        if let Some(end) = &piece.end {
            choice.insert("stop_reason".into(), json!(end.stop_reason));
        }
        if self.job.return_token_ids {
            choice.insert("token_ids".into(), ids(&piece.tokens));
        }
        Some(Value::Object(self.event(choice.into(), run)))
    }

    fn delta(&self, delta: Delta) -> Value {
        let mut fields = Map::new();
        if self.include_reasoning && !delta.reasoning.is_empty() {
            fields.insert("reasoning".into(), delta.reasoning.as_str().into());
            fields.insert("reasoning_content".into(), delta.reasoning.into());
        }
        if !delta.content.is_empty() {
            fields.insert("content".into(), delta.content.into());
        }
        if !delta.calls.is_empty() {
            fields.insert("tool_calls".into(), delta.calls.into_iter().map(call_delta).collect());
        }
        Value::Object(fields)
    }

    fn event(&self, choice: Value, run: &Run<'_>) -> Map<String, Value> {
        let mut event = self.job.head("chat.completion.chunk");
        event.insert("choices".into(), vec![choice].into());
        if self.job.streaming().continuous_usage {
            event.insert("usage".into(), self.job.usage(run.usage()));
        }
        event
    }

    fn spelling(&self) -> Spelling<'_> {
        Spelling::new(&self.job.tokenizer, self.job.tokens_as_ids)
    }

    fn logprobs(&self, tokens: &[TokenEvent]) -> Option<Value> {
        let content = self.spelling().chat(tokens);
        (!content.is_empty()).then(|| json!({"content": content}))
    }
}

/// A choice while it grows.
#[derive(Debug, Default)]
struct Growing {
    delta: Delta,
    tokens: Vec<TokenEvent>,
    end: Option<End>,
}

impl Growing {
    fn add(&mut self, delta: Delta, piece: Piece) {
        self.delta.append(delta);
        self.tokens.extend(piece.tokens);
        self.end = piece.end.or(self.end.take());
    }
}

fn ids(tokens: &[TokenEvent]) -> Value {
    tokens.iter().map(|token| token.id).collect()
}

fn whole_call(call: &ToolDelta) -> Value {
    json!({
        "id": format!("chatcmpl-tool-{}", random_hex()),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}

fn call_delta(call: ToolDelta) -> Value {
    match call.name {
        Some(name) => json!({
            "index": call.index,
            "id": format!("chatcmpl-tool-{}", random_hex()),
            "type": "function",
            "function": {"name": name, "arguments": call.arguments},
        }),
        None => json!({"index": call.index, "function": {"arguments": call.arguments}}),
    }
}

/// `logprobs` is a switch and `top_logprobs` the number, `-1` for all.
fn logprobs(fields: &mut Fields, app: &App) -> Result<TopLogprobs> {
    let top = top_logprobs(fields, "top_logprobs", &app.config)?;
    match (fields.flag("logprobs", false)?, top) {
        (true, TopLogprobs::None) => Ok(TopLogprobs::Best(0)),
        (true, top) => Ok(top),
        (false, TopLogprobs::None | TopLogprobs::Best(0)) => Ok(TopLogprobs::None),
        (false, _) => Err(fields.invalid("top_logprobs", "only with `logprobs`")),
    }
}

/// What may be called, the list for the template, and the calls that must come.
fn tools(fields: &mut Fields) -> Result<(Tools, Option<Vec<Value>>, Option<ToolCalls>)> {
    let list = fields.list("tools")?.filter(|list| !list.is_empty());
    let known = Tool::read_all(list.as_deref().unwrap_or_default())?;
    let several = fields.flag("parallel_tool_calls", true)?;
    let choice = fields.take("tool_choice");
    if list.is_none() && !matches!(choice.as_ref().and_then(Value::as_str), None | Some("none" | "auto")) {
        return Err(fields.invalid("tool_choice", "needs `tools`"));
    }
    match choice {
        _ if list.is_none() && !matches!(choice, Some(Value::Object(_))) => Ok((Tools::Off, None, None)),
        None => Ok((Tools::Free { several }, list, None)),
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => Ok((Tools::Off, list, None)),
            "auto" => Ok((Tools::Free { several }, list, None)),
            "required" => Ok((Tools::Required { several }, list, Some(ToolCalls { tools: known, several }))),
            _ => Err(fields.invalid("tool_choice", "expected none, auto, required or a function")),
        },
        Some(choice) => {
            let name = choice["function"]["name"].as_str().unwrap_or_default();
            let tools: Vec<Tool> = known.into_iter().filter(|tool| tool.name() == name).collect();
            if tools.is_empty() || choice["type"] != "function" {
                return Err(fields.invalid("tool_choice", "expected the name of one of `tools`"));
            }
            Ok((Tools::Named, list, Some(ToolCalls { tools, several: false })))
        }
    }
}

struct Prompt {
    text: String,
    add_special_tokens: bool,
}

fn prompt(app: &App, fields: &mut Fields, tools: Option<&[Value]>) -> Result<Prompt> {
    let template = app.template.as_ref();
    let template = template.ok_or_else(|| ApiError::invalid("messages", "this model has no chat template"))?;
    let list = fields.list("messages")?.unwrap_or_default();
    let messages = messages::normal(list)?;
    let documents = fields.list("documents")?;
    let kwargs = match fields.take("chat_template_kwargs") {
        None => None,
        Some(Value::Object(kwargs)) => Some(kwargs),
        Some(_) => return Err(fields.invalid("chat_template_kwargs", "expected an object")),
    };
    let continue_final_message = fields.flag("continue_final_message", false)?;
    let add_generation_prompt = fields.flag("add_generation_prompt", true)?;
    if continue_final_message && fields_conflict(add_generation_prompt, &messages) {
        let message = "needs `add_generation_prompt` false and a last message of the assistant";
        return Err(fields.invalid("continue_final_message", message));
    }
    let conversation = Conversation {
        tools,
        documents: documents.as_deref(),
        add_generation_prompt,
        continue_final_message,
        kwargs: kwargs.as_ref(),
        now: unix_time(),
        ..Conversation::new(&messages)
    };
    let rendered = template.render(&conversation);
    let text = rendered.map_err(|error| ApiError::invalid("messages", error.to_string()))?;
    Ok(Prompt { text, add_special_tokens: fields.flag("add_special_tokens", false)? })
}

fn fields_conflict(add_generation_prompt: bool, messages: &[Value]) -> bool {
    add_generation_prompt || messages.last().is_none_or(|message| message["role"] != "assistant")
}

/// What the prompt's end says about the answer's beginning.
fn opening(prompt: &str, split_reasoning: bool) -> Opening {
    let prompt = prompt.trim_end();
    if !split_reasoning || prompt.ends_with("</think>") {
        Opening::Content
    } else if prompt.ends_with("<think>") {
        Opening::Reasoning
    } else {
        Opening::Open
    }
}

/// The ids of a chat's prompt, for `/tokenize`.
pub(crate) fn tokenize(app: &App, fields: &mut Fields) -> Result<Vec<TokenId>> {
    let (_, list, _) = tools(fields)?;
    let prompt = prompt(app, fields, list.as_deref())?;
    app.encode("messages", &prompt.text, prompt.add_special_tokens)
}
