//! `/v1/chat/completions`: the answer; `request` is what is asked for.

mod request;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::logprobs::{ChatLogprobs, PromptLogprobs, Spelling};
use super::stream::{Events, Gone};
use crate::api::answer::Answer;
use crate::api::error::Result;
use crate::chance::random_hex;
use crate::chat::{Delta, Opening, Split, ToolDelta};
use crate::engine::{Logprobs, TokenEvent, TokenId};
use crate::generate::{End, Job, Piece, Run, StopReason, Update, UsageCount};
use request::Tools;

pub(crate) use request::tokenize;

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

impl Answer for Chat {
    type Whole = Whole;

    fn job(&self) -> &Job {
        &self.job
    }

    async fn whole(&self, run: &mut Run<'_>) -> Result<Whole> {
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
        for (answer, split) in answers.iter_mut().zip(&splits) {
            let reason = |end: &End| self.finish_reason(end, split);
            answer.reason = answer.end.as_ref().map(reason);
        }
        Ok(Whole {
            answers,
            prompt_logprobs,
            usage: run.usage(),
        })
    }

    fn write(&self, whole: Whole) -> serde_json::Result<String> {
        let prompt = &*self.job.prompts[0];
        let prompt_logprobs = whole.prompt_logprobs.as_deref();
        let answers = whole.answers.iter().enumerate();
        serde_json::to_string(&Body {
            head: self.job.head("chat.completion"),
            choices: answers
                .map(|(index, answer)| self.choice(index, answer))
                .collect(),
            service_tier: (),
            system_fingerprint: (),
            usage: self.job.usage(whole.usage),
            prompt_logprobs: prompt_logprobs.map(|logprobs| PromptLogprobs {
                spelling: self.spelling(),
                ids: prompt,
                logprobs,
            }),
            prompt_token_ids: self.job.return_token_ids.then_some(prompt),
        })
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
        let usage = self.job.usage_chunk("chat.completion.chunk", run.usage());
        events.done(usage.as_ref()).await
    }
}

impl Chat {
    fn split(&self) -> Vec<Split> {
        let one = || Split::new(self.opening, self.tools.calls());
        (0..self.job.choices()).map(|_| one()).collect()
    }

    fn finish_reason(&self, end: &End, split: &Split) -> &'static str {
        match self.tools {
            Tools::Free { .. } | Tools::Required { .. }
                if split.has_calls() && end.reason == "stop" =>
            {
                "tool_calls"
            }
            _ => end.reason,
        }
    }

    fn choice<'a>(&'a self, index: usize, answer: &'a Growing) -> ChoiceBody<'a> {
        let Growing { delta, tokens, .. } = answer;
        let reasoning = Some(delta.reasoning.as_str());
        let reasoning = reasoning.filter(|text| self.include_reasoning && !text.is_empty());
        let content = Some(delta.content.as_str());
        let content = content.filter(|text| !text.is_empty() || delta.calls.is_empty());
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        message.insert("content".into(), content.into());
        message.insert("refusal".into(), Value::Null);
        if !delta.calls.is_empty() {
            let calls = delta.calls.iter().map(whole_call).collect();
            message.insert("tool_calls".into(), calls);
        }
        message.insert("reasoning".into(), reasoning.into());
        message.insert("reasoning_content".into(), reasoning.into());
        ChoiceBody {
            index,
            message,
            logprobs: self.logprobs(tokens),
            finish_reason: answer.reason,
            stop_reason: answer.end.as_ref().and_then(|end| end.stop_reason.as_ref()),
            token_ids: self.job.return_token_ids.then(|| ids(tokens)),
        }
    }

    /// Before any token: the role, and the prompt's ids if they are wanted.
    fn first(&self, index: usize, run: &Run<'_>) -> Value {
        let delta = json!({"role": "assistant", "content": ""});
        let choice =
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        let mut chunk = self.event(choice, run);
        if self.job.return_token_ids {
            chunk.insert("prompt_token_ids".into(), json!(*self.job.prompts[0]));
        }
        Value::Object(chunk)
    }

    /// What a piece adds, unless it adds nothing that the request wants to see.
    fn chunk(
        &self,
        index: usize,
        delta: Delta,
        piece: &Piece,
        split: &Split,
        run: &Run<'_>,
    ) -> Option<Value> {
        let logprobs = self.logprobs(&piece.tokens);
        let has_ids = self.job.return_token_ids && !piece.tokens.is_empty();
        if delta.is_empty() && piece.end.is_none() && logprobs.is_empty() && !has_ids {
            return None;
        }
        let mut choice = Map::new();
        choice.insert("index".into(), index.into());
        choice.insert("delta".into(), self.delta(delta));
        choice.insert("logprobs".into(), json!(logprobs));
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
            fields.insert(
                "tool_calls".into(),
                delta.calls.into_iter().map(call_delta).collect(),
            );
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

    fn logprobs<'a>(&'a self, tokens: &'a [TokenEvent]) -> ChatLogprobs<'a> {
        ChatLogprobs {
            spelling: self.spelling(),
            tokens,
        }
    }
}

/// All choices, with what they took.
#[derive(Debug)]
pub(crate) struct Whole {
    answers: Vec<Growing>,
    prompt_logprobs: Option<Vec<Option<Logprobs>>>,
    usage: UsageCount,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    head: Map<String, Value>,
    choices: Vec<ChoiceBody<'a>>,
    service_tier: (),
    system_fingerprint: (),
    usage: Value,
    prompt_logprobs: Option<PromptLogprobs<'a>>,
    prompt_token_ids: Option<&'a [TokenId]>,
}

#[derive(Serialize)]
struct ChoiceBody<'a> {
    index: usize,
    message: Map<String, Value>,
    logprobs: ChatLogprobs<'a>,
    finish_reason: Option<&'static str>,
    stop_reason: Option<&'a StopReason>,
    token_ids: Option<Value>,
}

/// A choice while it grows.
#[derive(Debug, Default)]
struct Growing {
    delta: Delta,
    tokens: Vec<TokenEvent>,
    end: Option<End>,
    /// Why it ended, as clients are told.
    reason: Option<&'static str>,
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
