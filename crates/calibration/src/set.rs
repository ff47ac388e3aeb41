//! A calibration set as token ids, a sample at a time.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use xgraft_dataset::Message;
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

use crate::build::render;
use crate::candidate::joined;
use crate::{Error, Result};

/// The samples in a directory of `xgraft calibrate build`.
pub const SAMPLES: &str = "samples.jsonl";

/// A sample as a model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenized {
    /// Its ids, at most as many as asked for.
    pub ids: Vec<u32>,
    /// Ids beyond those.
    pub cut: usize,
}

/// The samples of a file, read, rendered and tokenized one by one.
#[derive(Debug)]
pub struct TokenizedSet<'a> {
    path: PathBuf,
    lines: std::io::Lines<BufReader<File>>,
    line: u64,
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
    limit: usize,
}

/// What is read of a [`crate::Sample`].
#[derive(Deserialize)]
struct Stored {
    messages: Vec<Message>,
}

impl<'a> TokenizedSet<'a> {
    /// Opens a file of samples. They are rendered with this template (the texts one after the other without one), and cut at
    /// `limit` ids.
    ///
    /// # Errors
    /// [`Error::Samples`] if the file cannot be opened.
    pub fn open(
        path: &Path,
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        limit: usize,
    ) -> Result<TokenizedSet<'a>> {
        let file = File::open(path).map_err(|why| Error::Samples {
            path: path.to_owned(),
            line: 0,
            found: why.to_string(),
        })?;
        Ok(TokenizedSet {
            path: path.to_owned(),
            lines: BufReader::new(file).lines(),
            line: 0,
            tokenizer,
            template,
            limit,
        })
    }

    fn sample(&self, line: &str) -> Result<Tokenized> {
        let stored: Stored = serde_json::from_str(line).map_err(|why| self.wrong(why))?;
        let name = format!("of line {}", self.line);
        let text = match self.template {
            Some(template) => render(template, &stored.messages, &name)?,
            None => joined(&stored.messages),
        };
        let ids = self.tokenizer.encode(&text, false);
        let ids = ids.map_err(|source| Error::Tokens {
            question: name,
            source: Box::new(source),
        })?;
        let cut = ids.len().saturating_sub(self.limit);
        let ids = ids.into_iter().take(self.limit).collect();
        Ok(Tokenized { ids, cut })
    }

    fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::Samples {
            path: self.path.clone(),
            line: self.line,
            found: why.to_string(),
        }
    }
}

impl Iterator for TokenizedSet<'_> {
    type Item = Result<Tokenized>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        self.line += 1;
        Some(match line {
            Ok(line) => self.sample(&line),
            Err(why) => Err(self.wrong(why)),
        })
    }
}
