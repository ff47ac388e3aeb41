//! Logprobs in the three forms in which clients expect them.

use serde_json::{Map, Value, json};
use xgraft_tokenizer::Tokenizer;

use crate::engine::{Logprobs, TokenEvent, TokenId};

/// In place of minus infinity, which JSON does not have; vLLM's own.
const LEAST: f32 = -9999.0;

/// How a token is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spelling<'t> {
    tokenizer: &'t Tokenizer,
    as_ids: bool,
}

impl<'t> Spelling<'t> {
    /// `as_ids`: as `token_id:7`, which unlike the text is unique.
    pub(crate) fn new(tokenizer: &'t Tokenizer, as_ids: bool) -> Self {
        Self { tokenizer, as_ids }
    }

    fn bytes(&self, id: TokenId) -> &'t [u8] {
        self.tokenizer.token_bytes(id).unwrap_or_default()
    }

    fn text(&self, id: TokenId) -> String {
        if self.as_ids {
            return format!("token_id:{id}");
        }
        String::from_utf8_lossy(self.bytes(id)).into_owned()
    }

    fn entry(&self, id: TokenId, logprob: f32) -> Map<String, Value> {
        let mut entry = Map::new();
        entry.insert("token".into(), self.text(id).into());
        entry.insert("logprob".into(), finite(logprob));
        entry.insert("bytes".into(), self.bytes(id).into());
        entry
    }

    /// `choices[].logprobs.content` of chat.
    pub(crate) fn chat(&self, tokens: &[TokenEvent]) -> Vec<Value> {
        let with_logprobs = tokens
            .iter()
            .filter_map(|token| Some((token.id, token.logprobs.as_ref()?)));
        let entry = |(id, logprobs): (TokenId, &Logprobs)| {
            let top = logprobs
                .top
                .iter()
                .map(|(id, logprob)| Value::Object(self.entry(*id, *logprob)));
            let top: Value = top.collect();
            let mut entry = self.entry(id, logprobs.logprob);
            entry.insert("top_logprobs".into(), top);
            Value::Object(entry)
        };
        with_logprobs.map(entry).collect()
    }

    /// `prompt_logprobs`: for each token an object by id of logprob, rank and text; `null` for the first.
    pub(crate) fn prompt(&self, ids: &[TokenId], logprobs: &[Option<Logprobs>]) -> Value {
        let position = |(id, logprobs): (&TokenId, &Option<Logprobs>)| {
            let Some(logprobs) = logprobs else {
                return Value::Null;
            };
            let one = |logprob: f32, rank: usize, id: TokenId| json!({"logprob": finite(logprob), "rank": rank, "decoded_token": self.text(id)});
            let mut entries = Map::new();
            entries.insert(
                id.to_string(),
                one(logprobs.logprob, logprobs.rank as usize + 1, *id),
            );
            for (place, (id, logprob)) in logprobs.top.iter().enumerate() {
                let key = id.to_string();
                entries
                    .entry(key)
                    .or_insert_with(|| one(*logprob, place + 1, *id));
            }
            Value::Object(entries)
        };
        ids.iter().zip(logprobs).map(position).collect()
    }
}

/// The four lists of `/v1/completions`.
#[derive(Debug, Default)]
pub(crate) struct TokenLists {
    tokens: Vec<Value>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<Value>,
    /// Characters of the tokens so far.
    offset: usize,
}

impl TokenLists {
    /// Adds a token; its logprobs are `null` for the first of a prompt.
    pub(crate) fn push(
        &mut self,
        spelling: &Spelling<'_>,
        id: TokenId,
        logprobs: Option<&Logprobs>,
    ) {
        let text = spelling.text(id);
        self.text_offset.push(self.offset.into());
        self.offset += String::from_utf8_lossy(spelling.bytes(id)).chars().count();
        self.token_logprobs
            .push(logprobs.map_or(Value::Null, |logprobs| finite(logprobs.logprob)));
        self.top_logprobs
            .push(logprobs.map_or(Value::Null, |logprobs| {
                let mut top = Map::new();
                for (id, logprob) in &logprobs.top {
                    top.entry(spelling.text(*id))
                        .or_insert_with(|| finite(*logprob));
                }
                top.entry(text.clone())
                    .or_insert_with(|| finite(logprobs.logprob));
                Value::Object(top)
            }));
        self.tokens.push(text.into());
    }

    /// What was pushed since the last time; offsets go on.
    pub(crate) fn take(&mut self) -> Value {
        let taken = std::mem::replace(
            self,
            Self {
                offset: self.offset,
                ..Self::default()
            },
        );
        json!({
            "text_offset": taken.text_offset,
            "token_logprobs": taken.token_logprobs,
            "tokens": taken.tokens,
            "top_logprobs": taken.top_logprobs,
        })
    }
}

fn finite(logprob: f32) -> Value {
    f64::from(logprob.max(LEAST)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_among_the_best_is_still_reported() {
        let tokenizer = Tokenizer::open(xgraft_fixtures::TEXT.base()).unwrap();
        let spelling = Spelling::new(&tokenizer, true);
        let logprobs = Logprobs {
            logprob: f32::NEG_INFINITY,
            rank: 9,
            top: vec![(5, -0.5), (6, -1.5)],
        };
        let prompt = spelling.prompt(&[3, 7], &[None, Some(logprobs.clone())]);
        assert_eq!(prompt[0], Value::Null);
        assert_eq!(
            prompt[1]["7"],
            json!({"logprob": -9999.0, "rank": 10, "decoded_token": "token_id:7"})
        );
        assert_eq!(prompt[1]["6"]["rank"], 2);
        let mut lists = TokenLists::default();
        lists.push(&spelling, 3, None);
        lists.push(&spelling, 7, Some(&logprobs));
        let lists = lists.take();
        assert_eq!(
            lists["top_logprobs"][1],
            json!({"token_id:5": -0.5, "token_id:6": -1.5, "token_id:7": -9999.0})
        );
        assert_eq!(lists["token_logprobs"], json!([null, -9999.0]));
        assert_eq!(lists["text_offset"][0], 0);
    }
}
