//! A calibration set as token ids, a sample at a time.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use xgraft_dataset::{Class, Message, Role};
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

use crate::build::{encode, render, rendered};
use crate::{Error, Result};

/// The samples in a directory of `xgraft calibrate build`.
pub const SAMPLES: &str = "samples.jsonl";

/// A sample as a model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenized {
    /// The question that it answers, where the file says so.
    pub question: Option<String>,
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
    answers: Answers,
}

/// What of a sample's last answer has to be known.
#[derive(Debug)]
enum Answers {
    /// Nothing.
    Unmarked,
    /// Where it begins.
    Marked,
    /// The sample is its prompt, rendered with these switches, and then the answer with the token that ends it.
    Asked(Map<String, Value>),
}

/// What is read of a [`crate::Sample`], or of a trajectory.
#[derive(Deserialize)]
struct Stored {
    messages: Vec<Message>,
    question: Option<String>,
    class: Option<Class>,
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
            answers: Answers::Unmarked,
        })
    }

    /// Also finds where each sample's last answer begins.
    #[must_use]
    pub fn with_answers(self) -> Self {
        TokenizedSet {
            answers: Answers::Marked,
            ..self
        }
    }

    /// For the trajectories of a run (`answers.jsonl`): each sample is what the endpoint computed, the prompt of the last answer,
    /// rendered with the run's `chat_template_kwargs`, that answer, and the token that closes it, unless a limit did. Attempts
    /// that do not end with a message of the model have no answer.
    #[must_use]
    pub fn as_asked(self, kwargs: Map<String, Value>) -> Self {
        TokenizedSet {
            answers: Answers::Asked(kwargs),
            ..self
        }
    }

    fn sample(&self, line: &str) -> Result<Tokenized> {
        let stored: Stored = serde_json::from_str(line).map_err(|why| self.wrong(why))?;
        let name = format!("of line {}", self.line);
        let question = stored.question.clone();
        if let Answers::Asked(kwargs) = &self.answers {
            let (ids, answer) = self.asked(&stored, kwargs, &name)?;
            return Ok(self.cut(question, ids, answer));
        }
        let text = render(self.template, &stored.messages, &name, false)?;
        let ids = self.encode(&text, &name)?;
        let answer = match self.answers {
            Answers::Marked => self.answer(&stored.messages, &text, &name)?,
            _ => None,
        };
        let answer = answer.unwrap_or(ids.len());
        Ok(self.cut(question, ids, answer))
    }

    fn cut(&self, question: Option<String>, ids: Vec<u32>, answer: usize) -> Tokenized {
        Tokenized {
            question,
            cut: ids.len().saturating_sub(self.limit),
            answer: answer.min(self.limit),
            ids: ids.into_iter().take(self.limit).collect(),
        }
    }

    /// The ids as they were asked and answered, and where the answer begins.
    fn asked(
        &self,
        stored: &Stored,
        kwargs: &Map<String, Value>,
        name: &str,
    ) -> Result<(Vec<u32>, usize)> {
        let (before, last) = match stored.messages.split_last() {
            Some((last, before)) if last.role == Role::Assistant => (before, Some(last)),
            _ => (&stored.messages[..], None),
        };
        let prompt = rendered(self.template, before, name, true, kwargs)?;
        let mut ids = self.encode(&prompt, name)?;
        let answer = ids.len();
        if let Some(last) = last {
            ids.extend(self.encode(&last.content, name)?);
            if stored.class != Some(Class::Overflow) {
                ids.extend(self.end(&stored.messages, &last.content, name)?);
            }
        }
        Ok((ids, answer))
    }

    /// The token with which the template closes a message of this content.
    fn end(&self, messages: &[Message], content: &str, name: &str) -> Result<Option<u32>> {
        if self.template.is_none() {
            return Ok(None);
        }
        let text = render(self.template, messages, name, false)?;
        let tail = text.rfind(content).map(|at| &text[at + content.len()..]);
        let tail = self.encode(tail.unwrap_or_default(), name)?;
        Ok(tail.first().copied())
    }

    fn encode(&self, text: &str, name: &str) -> Result<Vec<u32>> {
        encode(self.tokenizer, text, name)
    }

    /// Ids before the model's last message, where the text before it stands unchanged.
    fn answer(&self, messages: &[Message], text: &str, name: &str) -> Result<Option<usize>> {
        let Some((last, before)) = messages.split_last() else {
            return Ok(None);
        };
        if last.role != Role::Assistant {
            return Ok(None);
        }
        let prompt = render(self.template, before, name, true)?;
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
