//! A calibration set as token ids, a sample at a time.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use xgraft_dataset::{Message, Role};
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
    /// Where the last message begins, if that is the model's and was asked for; else where the sample ends.
    pub answer: usize,
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
    answers: bool,
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
            answers: false,
        })
    }

    /// Also finds where each sample's last answer begins.
    #[must_use]
    pub fn with_answers(self) -> Self {
        TokenizedSet {
            answers: true,
            ..self
        }
    }

    fn sample(&self, line: &str) -> Result<Tokenized> {
        let stored: Stored = serde_json::from_str(line).map_err(|why| self.wrong(why))?;
        let name = format!("of line {}", self.line);
        let text = match self.template {
            Some(template) => render(template, &stored.messages, &name, false)?,
            None => joined(&stored.messages),
        };
        let ids = self.encode(&text, &name)?;
        let answer = match self.answers {
            true => self.answer(&stored.messages, &text, &name)?,
            false => None,
        };
        let answer = answer.unwrap_or(ids.len()).min(self.limit);
        let cut = ids.len().saturating_sub(self.limit);
        let ids = ids.into_iter().take(self.limit).collect();
        Ok(Tokenized { ids, cut, answer })
    }

    fn encode(&self, text: &str, name: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizer.encode(text, false);
        ids.map_err(|source| Error::Tokens {
            question: name.to_owned(),
            source: Box::new(source),
        })
    }

    /// Ids before the model's last message, where the text before it stands unchanged.
    fn answer(&self, messages: &[Message], text: &str, name: &str) -> Result<Option<usize>> {
        let Some((last, before)) = messages.split_last() else {
            return Ok(None);
        };
        if last.role != Role::Assistant {
            return Ok(None);
        }
        let prompt = match self.template {
            Some(template) => render(template, before, name, true)?,
            None => joined(before),
        };
        match text.starts_with(&prompt) {
            true => Ok(Some(self.encode(&prompt, name)?.len())),
            false => Ok(None),
        }
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
