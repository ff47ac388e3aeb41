//! `rank_pattern` and `alpha_pattern`: which key governs a module.

use std::path::Path;

use regex::Regex;

use crate::error::{Error, Result};
use crate::pattern::compile;

/// Keys with their values, in the order of the file: the first that matches governs.
///
/// A key is a regular expression that must match the module's name or an end of it that follows a dot:
/// `^(.*\.)?(key)$`. An unescaped dot matches any character, as it does in PEFT.
///
/// **Source** PEFT 0.21: `utils/other.py`, `get_pattern_key`.
#[derive(Debug, Clone)]
pub(crate) struct Patterns<T> {
    keys: Vec<(Key, T)>,
}

#[derive(Debug, Clone)]
enum Key {
    /// Letters, digits, `_`, `-` and dots only: compared without an automaton, because adapters have hundreds of them.
    Plain(String),
    Regex(Regex),
}

impl<T: Copy> Patterns<T> {
    /// # Errors
    /// [`Error::Config`] for a key that is no regular expression, or one that needs to look ahead or back.
    pub(crate) fn new(pattern: &[(String, T)], file: &Path, field: &str) -> Result<Patterns<T>> {
        let key = |(key, value): &(String, T)| {
            let compiled = Key::new(key).map_err(|found| Error::Config {
                file: file.to_owned(),
                field: format!("{field}.{key}"),
                expected: "a module's name, or a regular expression without lookaround".to_owned(),
                found,
            })?;
            Ok((compiled, *value))
        };
        Ok(Patterns {
            keys: pattern.iter().map(key).collect::<Result<_>>()?,
        })
    }

    /// The value of the first key that matches.
    pub(crate) fn get(&self, module: &str) -> Option<T> {
        self.keys
            .iter()
            .find(|(key, _)| key.matches(module))
            .map(|(_, value)| *value)
    }
}

impl Key {
    fn new(key: &str) -> Result<Key, String> {
        let plain = key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if plain {
            return Ok(Key::Plain(key.to_owned()));
        }
        // Alone first: a stray parenthesis could close ours.
        compile(key)?;
        compile(&format!(r"^(.*\.)?({key})$")).map(Key::Regex)
    }

    fn matches(&self, module: &str) -> bool {
        match self {
            Key::Regex(regex) => regex.is_match(module),
            Key::Plain(key) => {
                let (key, module) = (key.as_bytes(), module.as_bytes());
                let Some(start) = module.len().checked_sub(key.len()) else {
                    return false;
                };
                let at_component = start == 0 || module[start - 1] == b'.';
                at_component
                    && key
                        .iter()
                        .zip(&module[start..])
                        .all(|(k, m)| k == m || *k == b'.')
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(keys: &[(&str, usize)], module: &str) -> Option<usize> {
        let keys: Vec<(String, usize)> = keys.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        Patterns::new(&keys, Path::new("adapter_config.json"), "rank_pattern")
            .unwrap()
            .get(module)
    }

    #[test]
    fn a_key_matches_whole_components_at_the_end() {
        let q = "model.layers.0.self_attn.q_proj";
        assert_eq!(first(&[("q_proj", 4)], q), Some(4));
        assert_eq!(first(&[("layers.0.self_attn.q_proj", 4)], q), Some(4));
        assert_eq!(first(&[(q, 4)], q), Some(4));
        assert_eq!(first(&[("proj", 4)], q), None);
        assert_eq!(first(&[("self_attn", 4)], q), None);
        assert_eq!(first(&[("x.model.layers.0.self_attn.q_proj", 4)], q), None);
    }

    #[test]
    fn the_first_key_that_matches_governs() {
        assert_eq!(
            first(
                &[("q_proj", 4), ("self_attn.q_proj", 8)],
                "a.self_attn.q_proj"
            ),
            Some(4)
        );
    }

    #[test]
    fn a_dot_matches_any_character_and_an_escaped_one_only_a_dot() {
        assert_eq!(first(&[("self.attn.q", 1)], "self_attn.q"), Some(1));
        assert_eq!(first(&[(r"self\.attn\.q", 1)], "self_attn.q"), None);
        assert_eq!(
            first(&[(r"layers\.[12]\.q", 1)], "model.layers.2.q"),
            Some(1)
        );
        assert_eq!(first(&[(r"layers\.[12]\.q", 1)], "model.layers.3.q"), None);
        assert_eq!(
            first(&[(r"layers\.\d+\.(q|k)", 1)], "model.layers.31.k"),
            Some(1)
        );
        assert_eq!(first(&[("^model.q", 1)], "model.q"), Some(1));
    }

    #[test]
    fn a_key_that_cannot_be_a_pattern_is_refused_by_name() {
        for key in ["(", "a)|(b", "(?=x)y", r"(a)\1"] {
            let error = Patterns::new(&[(key.to_owned(), 1)], Path::new("c.json"), "rank_pattern")
                .unwrap_err();
            assert!(error.to_string().contains("rank_pattern"), "{error}");
        }
    }
}
