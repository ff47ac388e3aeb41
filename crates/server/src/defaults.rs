//! `generation_config.json`: what the makers of a model sample with.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::engine::TokenId;

/// What a request gets that does not say otherwise, as vLLM reads it from the model's directory.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct GenerationDefaults {
    /// Tokens that end a text.
    #[serde(default, rename = "eos_token_id", deserialize_with = "one_or_many")]
    pub eos_tokens: Vec<TokenId>,
    /// 1 if it is absent.
    pub temperature: Option<f32>,
    /// 1 if it is absent.
    pub top_p: Option<f32>,
    /// 0, all, if it is absent.
    pub top_k: Option<u32>,
    /// 0 if it is absent.
    pub min_p: Option<f32>,
    /// 1 if it is absent.
    pub repetition_penalty: Option<f32>,
    /// The most tokens of an answer, whatever a request asks for.
    pub max_new_tokens: Option<usize>,
}

/// Why a `generation_config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefaultsError {
    /// The file cannot be read.
    #[error("could not read {}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's own words.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}: not a generation config", .file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// The parser's own words.
        source: serde_json::Error,
    },
}

impl GenerationDefaults {
    /// Reads the file of a model directory; a directory without one has no defaults. Tokens that end a text are taken from
    /// `config.json` where this file has none.
    ///
    /// # Errors
    /// The file is there and cannot be read or parsed.
    pub fn open(dir: &Path) -> Result<Self, DefaultsError> {
        let mut defaults = Self::read(dir.join("generation_config.json"))?;
        if defaults.eos_tokens.is_empty() {
            defaults.eos_tokens = Self::read(dir.join("config.json"))?.eos_tokens;
        }
        Ok(defaults)
    }

    fn read(file: PathBuf) -> Result<Self, DefaultsError> {
        match std::fs::read(&file) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|source| DefaultsError::Json { file, source })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(DefaultsError::Io { file, source }),
        }
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<TokenId>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Eos {
        One(TokenId),
        Many(Vec<TokenId>),
    }
    Ok(match Option::<Eos>::deserialize(input)? {
        None => Vec::new(),
        Some(Eos::One(id)) => vec![id],
        Some(Eos::Many(ids)) => ids,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixture_s_own_values_are_read() {
        let defaults = GenerationDefaults::open(&xgraft_fixtures::TEXT.base()).unwrap();
        assert_eq!(defaults.eos_tokens, [1013, 1011]);
        assert_eq!(
            (defaults.temperature, defaults.top_p, defaults.top_k),
            (Some(0.6), Some(0.95), Some(20))
        );
    }

    #[test]
    fn one_end_token_none_and_no_file_at_all() {
        let one: GenerationDefaults = serde_json::from_str(r#"{"eos_token_id": 7}"#).unwrap();
        assert_eq!(one.eos_tokens, [7]);
        let none: GenerationDefaults = serde_json::from_str(r#"{"eos_token_id": null}"#).unwrap();
        assert_eq!(none, GenerationDefaults::default());
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            GenerationDefaults::open(dir.path()).unwrap(),
            GenerationDefaults::default()
        );
    }
}
