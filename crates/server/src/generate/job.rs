//! What an answer says besides its tokens.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use xgraft_tokenizer::Tokenizer;

use super::run::UsageCount;
use crate::api::error::{ApiError, Result, quote};
use crate::api::parameters::{Parameters, Streaming};
use crate::app::App;
use crate::chance::unix_time;
use crate::engine::{TokenId, TopLogprobs};

/// What an answer says besides its tokens.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    created: i64,
    model: String,
    pub(super) adapter: Option<String>,
    n: usize,
    stream: Option<Streaming>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) prompts: Vec<Arc<[TokenId]>>,
    pub(crate) logprobs: TopLogprobs,
    pub(crate) return_token_ids: bool,
    pub(crate) tokens_as_ids: bool,
}

impl Job {
    /// An answer to these prompts.
    pub(crate) fn new(
        app: &App,
        id: &str,
        parameters: &Parameters,
        prompts: Vec<Arc<[TokenId]>>,
        logprobs: TopLogprobs,
    ) -> Result<Self> {
        let (model, adapter) = app.model_and_adapter(parameters.model.as_deref())?;
        let n = parameters.n as usize;
        let (choices, most) = (prompts.len().saturating_mul(n), app.config.max_choices);
        if choices > most {
            let message = format!("{choices} choices asked for, at most {most} are given");
            return Err(ApiError::invalid("n", message));
        }
        Ok(Self {
            id: id.to_owned(),
            created: unix_time(),
            model,
            adapter,
            n,
            stream: parameters.stream,
            tokenizer: app.tokenizer.clone(),
            prompts,
            logprobs,
            return_token_ids: parameters.return_token_ids,
            tokens_as_ids: parameters.tokens_as_ids,
        })
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
        self.stream.unwrap_or(Streaming {
            include_usage: false,
            continuous_usage: false,
        })
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

    /// The last object of a stream, which has the usage and no choices, if it is asked for.
    pub(crate) fn usage_chunk(&self, object: &str, count: UsageCount) -> Option<Value> {
        let mut chunk = self.head(object);
        chunk.insert("choices".into(), json!([]));
        chunk.insert("usage".into(), self.usage(count));
        self.streaming()
            .include_usage
            .then_some(Value::Object(chunk))
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

impl App {
    /// The name that the answer carries, and the adapter of that name.
    pub(crate) fn model_and_adapter(
        &self,
        asked: Option<&str>,
    ) -> Result<(String, Option<String>)> {
        let names = &self.config.model_names;
        match asked {
            None => Ok((names[0].clone(), None)),
            Some(name) if names.iter().any(|known| known == name) => Ok((name.to_owned(), None)),
            Some(name) if self.engine.adapters().iter().any(|card| card.name == name) => {
                Ok((name.to_owned(), Some(name.to_owned())))
            }
            Some(name) => Err(ApiError::not_found(
                "model",
                format!("the model `{}` does not exist", quote(name)),
            )),
        }
    }
}
