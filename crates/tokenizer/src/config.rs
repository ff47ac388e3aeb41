//! `tokenizer_config.json` and `special_tokens_map.json`: the tokens that `tokenizer.json` does not have, and those that
//! templates call by name.

use crate::file::{AddedToken, check_id, field};
use crate::{Result, json};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

const FILE: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const LARGEST_FILE: u64 = 16 << 20;

/// Names under which a template finds a special token.
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// What is used of both files; both may be missing.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    /// `added_tokens_decoder`, by id.
    pub(crate) added: Vec<AddedToken>,
    /// `bos_token` and the others that there are.
    pub(crate) special: Map<String, Value>,
    /// The field `chat_template` as it is.
    pub(crate) chat_template: Value,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, AddedToken>,
    #[serde(default)]
    chat_template: Value,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl TokenizerConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let file = dir.join(FILE);
        let mut config = match json::bytes_if_any(&file, LARGEST_FILE)? {
            Some(text) => Self::parse(&text, &file)?,
            None => Self::default(),
        };
        let file = dir.join(MAP);
        if let Some(text) = json::bytes_if_any(&file, LARGEST_FILE)? {
            let others = json::parse(&text, &file, "a map of special tokens")?;
            config.add_special(&others, &file)?;
        }
        Ok(config)
    }

    pub(crate) fn parse(text: &[u8], file: &Path) -> Result<Self> {
        let fields: Fields = json::parse(text, file, "a tokenizer's configuration")?;
        let mut config = Self {
            added: Vec::new(),
            special: Map::new(),
            chat_template: fields.chat_template,
        };
        for (id, token) in fields.added_tokens_decoder {
            let id = id
                .parse()
                .map_err(|_| field(file, "added_tokens_decoder", "ids as keys", id))?;
            check_id(file, "added_tokens_decoder", id)?;
            config.added.push(AddedToken { id, ..token });
        }
        config.added.sort_by_key(|token| token.id);
        config.add_special(&fields.others, file)?;
        Ok(config)
    }

    /// The named tokens that are not known yet, each a text or an object with `content`.
    fn add_special(&mut self, others: &Map<String, Value>, file: &Path) -> Result<()> {
        for name in NAMES {
            let Some(token) = others.get(name).filter(|token| !token.is_null()) else {
                continue;
            };
            let Some(text) = token.as_str().or(token["content"].as_str()) else {
                let expected = "a text, or an object with `content`";
                return Err(field(file, name, expected, token.to_string()));
            };
            self.special.entry(name).or_insert_with(|| text.into());
        }
        Ok(())
    }
}
