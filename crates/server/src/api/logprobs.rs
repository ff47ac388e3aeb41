//! Logprobs in the three forms in which clients expect them.
//!
//! With the whole vocabulary they are millions of entries, so they are written from what the engine gave, without a tree of
//! values between.

use std::collections::HashSet;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
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
}

fn finite(logprob: f32) -> f64 {
    f64::from(logprob.max(LEAST))
}

/// `choices[].logprobs` of chat: `null` where no token has any.
#[derive(Debug)]
pub(crate) struct ChatLogprobs<'a> {
    pub(crate) spelling: Spelling<'a>,
    pub(crate) tokens: &'a [TokenEvent],
}

impl ChatLogprobs<'_> {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.iter().all(|token| token.logprobs.is_none())
    }
}

impl Serialize for ChatLogprobs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Content<'a, 'b>(&'b ChatLogprobs<'a>);
        impl Serialize for Content<'_, '_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let ChatLogprobs { spelling, tokens } = self.0;
                serializer.collect_seq(tokens.iter().filter_map(|token| {
                    let logprobs = token.logprobs.as_ref()?;
                    Some(ChatEntry {
                        spelling,
                        id: token.id,
                        logprob: logprobs.logprob,
                        top: Some(&logprobs.top),
                    })
                }))
            }
        }
        if self.is_empty() {
            return serializer.serialize_none();
        }
        let mut fields = serializer.serialize_struct("logprobs", 1)?;
        fields.serialize_field("content", &Content(self))?;
        fields.end()
    }
}

/// `{"token", "logprob", "bytes"}`, and `top_logprobs` of the token itself.
struct ChatEntry<'a> {
    spelling: &'a Spelling<'a>,
    id: TokenId,
    logprob: f32,
    top: Option<&'a [(TokenId, f32)]>,
}

impl Serialize for ChatEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Top<'a>(&'a Spelling<'a>, &'a [(TokenId, f32)]);
        impl Serialize for Top<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.1.iter().map(|&(id, logprob)| ChatEntry {
                    spelling: self.0,
                    id,
                    logprob,
                    top: None,
                }))
            }
        }
        let mut fields = serializer.serialize_struct("entry", 4)?;
        fields.serialize_field("token", &self.spelling.text(self.id))?;
        fields.serialize_field("logprob", &finite(self.logprob))?;
        fields.serialize_field("bytes", self.spelling.bytes(self.id))?;
        if let Some(top) = self.top {
            fields.serialize_field("top_logprobs", &Top(self.spelling, top))?;
        }
        fields.end()
    }
}

/// `prompt_logprobs`: for each token an object by id of logprob, rank and text; `null` for the first.
#[derive(Debug)]
pub(crate) struct PromptLogprobs<'a> {
    pub(crate) spelling: Spelling<'a>,
    pub(crate) ids: &'a [TokenId],
    pub(crate) logprobs: &'a [Option<Logprobs>],
}

impl Serialize for PromptLogprobs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let positions = self.ids.iter().zip(self.logprobs);
        serializer.collect_seq(positions.map(|(id, logprobs)| {
            let spelling = self.spelling;
            logprobs.as_ref().map(|logprobs| Position {
                spelling,
                id: *id,
                logprobs,
            })
        }))
    }
}

/// The token itself first, then the likeliest ones but for it.
struct Position<'a> {
    spelling: Spelling<'a>,
    id: TokenId,
    logprobs: &'a Logprobs,
}

#[derive(serde::Serialize)]
struct PromptEntry {
    logprob: f64,
    rank: usize,
    decoded_token: String,
}

impl Serialize for Position<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = |id: TokenId, logprob: f32, rank: usize| PromptEntry {
            logprob: finite(logprob),
            rank,
            decoded_token: self.spelling.text(id),
        };
        let Self { id, logprobs, .. } = self;
        let mut entries = serializer.serialize_map(None)?;
        entries.serialize_entry(
            id,
            &entry(*id, logprobs.logprob, logprobs.rank as usize + 1),
        )?;
        for (place, &(other, logprob)) in logprobs.top.iter().enumerate() {
            if other != *id {
                entries.serialize_entry(&other, &entry(other, logprob, place + 1))?;
            }
        }
        entries.end()
    }
}

/// Tokens for the four lists of `/v1/completions`.
#[derive(Debug, Default)]
pub(crate) struct TokenLists {
    tokens: Vec<(TokenId, Option<Logprobs>)>,
    /// Characters of the tokens that were taken out.
    offset: usize,
}

impl TokenLists {
    /// Adds a token; it has no logprobs if it is the first of a prompt.
    pub(crate) fn push(&mut self, id: TokenId, logprobs: Option<Logprobs>) {
        self.tokens.push((id, logprobs));
    }

    /// What was pushed since the last time; offsets go on.
    pub(crate) fn take(&mut self, spelling: &Spelling<'_>) -> Self {
        let length = |(id, _): &(TokenId, _)| characters(spelling.bytes(*id));
        let offset = self.offset + self.tokens.iter().map(length).sum::<usize>();
        std::mem::replace(
            self,
            Self {
                offset,
                tokens: Vec::new(),
            },
        )
    }

    /// The lists.
    pub(crate) fn spelled<'a>(&'a self, spelling: Spelling<'a>) -> Lists<'a> {
        Lists {
            spelling,
            lists: self,
        }
    }
}

fn characters(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).chars().count()
}

/// The four lists of `/v1/completions`.
#[derive(Debug)]
pub(crate) struct Lists<'a> {
    spelling: Spelling<'a>,
    lists: &'a TokenLists,
}

impl Serialize for Lists<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tokens = &self.lists.tokens;
        let mut offset = self.lists.offset;
        let offsets = tokens.iter().map(|(id, _)| {
            let start = offset;
            offset += characters(self.spelling.bytes(*id));
            start
        });
        let offsets: Vec<usize> = offsets.collect();
        let logprob = |logprobs: &Logprobs| finite(logprobs.logprob);
        let own = tokens
            .iter()
            .map(|(_, logprobs)| logprobs.as_ref().map(logprob));
        let own: Vec<Option<f64>> = own.collect();
        let texts: Vec<String> = tokens
            .iter()
            .map(|(id, _)| self.spelling.text(*id))
            .collect();
        let mut fields = serializer.serialize_struct("lists", 4)?;
        fields.serialize_field("text_offset", &offsets)?;
        fields.serialize_field("token_logprobs", &own)?;
        fields.serialize_field("tokens", &texts)?;
        fields.serialize_field("top_logprobs", &Tops(self))?;
        fields.end()
    }
}

/// Of each token an object by text; of several tokens of one text the likeliest.
struct Tops<'a>(&'a Lists<'a>);

impl Serialize for Tops<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Top<'a>(&'a Spelling<'a>, TokenId, &'a Logprobs);
        impl Serialize for Top<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Self(spelling, id, logprobs) = self;
                let own = std::iter::once((*id, logprobs.logprob));
                let mut seen = HashSet::new();
                let mut entries = serializer.serialize_map(None)?;
                for (id, logprob) in logprobs.top.iter().copied().chain(own) {
                    let text = spelling.text(id);
                    if !seen.contains(&text) {
                        entries.serialize_entry(&text, &finite(logprob))?;
                        seen.insert(text);
                    }
                }
                entries.end()
            }
        }
        let Lists { spelling, lists } = self.0;
        let tops = lists.tokens.iter().map(|(id, logprobs)| {
            let logprobs = logprobs.as_ref()?;
            Some(Top(spelling, *id, logprobs))
        });
        serializer.collect_seq(tops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_token_that_is_not_among_the_best_is_still_reported() {
        let tokenizer = Tokenizer::open(xgraft_fixtures::TEXT.base()).unwrap();
        let spelling = Spelling::new(&tokenizer, true);
        let logprobs = Logprobs {
            logprob: f32::NEG_INFINITY,
            rank: 9,
            top: vec![(5, -0.5), (6, -1.5)],
        };
        let prompt = PromptLogprobs {
            spelling,
            ids: &[3, 7],
            logprobs: &[None, Some(logprobs.clone())],
        };
        let prompt = serde_json::to_value(prompt).unwrap();
        assert_eq!(prompt[0], Value::Null);
        assert_eq!(
            prompt[1]["7"],
            json!({"logprob": -9999.0, "rank": 10, "decoded_token": "token_id:7"})
        );
        assert_eq!(prompt[1]["6"]["rank"], 2);
        let mut lists = TokenLists::default();
        lists.push(3, None);
        lists.push(7, Some(logprobs));
        let lists = serde_json::to_value(lists.spelled(spelling)).unwrap();
        assert_eq!(
            lists["top_logprobs"][1],
            json!({"token_id:5": -0.5, "token_id:6": -1.5, "token_id:7": -9999.0})
        );
        assert_eq!(lists["token_logprobs"], json!([null, -9999.0]));
        assert_eq!(lists["text_offset"][0], 0);
    }
}
