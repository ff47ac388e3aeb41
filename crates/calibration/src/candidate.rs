//! The first pass: what may be taken, in bounded memory.

use std::collections::BTreeMap;
use std::path::Path;

use xgraft_dataset::{Class, Message, Reader, Role, Trajectory};

use crate::{Config, Error, Leaks, MinHash, Result, clean, secret, turns};

/// An attempt that may be taken.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Where it stands in the file, from 1.
    pub(crate) row: u64,
    pub(crate) sketch: MinHash,
}

/// What the first pass found.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub(crate) rows: u64,
    pub(crate) classes: BTreeMap<&'static str, u64>,
    pub(crate) held_out: u64,
    pub(crate) secrets: BTreeMap<&'static str, u64>,
    /// Attempts left out, by the question of the evaluation set that they have something of.
    pub(crate) leaks: BTreeMap<String, u64>,
    pub(crate) exact_duplicates: u64,
    /// By task, and in it by a number that seed and text give.
    pub(crate) by_task: BTreeMap<String, BTreeMap<[u8; 32], Candidate>>,
}

/// Reads the file once. Of every task the candidates with the least numbers are kept, eight times as many as could be taken.
pub(crate) fn candidates(path: &Path, config: &Config, leaks: &Leaks) -> Result<Candidates> {
    let most = (8 * config.samples).max(64);
    let mut found = Candidates::default();
    for row in rows(path)? {
        let (number, attempt) = row?;
        found.rows = number;
        *found.classes.entry(attempt.class.name()).or_default() += 1;
        if attempt.class == Class::Right {
            found.add(number, &attempt, config, leaks, most);
        }
    }
    Ok(found)
}

impl Candidates {
    fn add(&mut self, row: u64, attempt: &Trajectory, config: &Config, leaks: &Leaks, most: usize) {
        if !config.may_use(&attempt.question) {
            self.held_out += 1;
            return;
        }
        let messages = conversation(attempt);
        if let Some(kind) = messages.iter().find_map(|m| secret(&m.content)) {
            *self.secrets.entry(kind).or_default() += 1;
            return;
        }
        let texts = messages.iter().map(|m| m.content.as_str());
        if config.drop_leaks
            && let Some(leak) = leaks.find(&attempt.question, texts)
        {
            *self.leaks.entry(leak.question().to_owned()).or_default() += 1;
            return;
        }
        let number = config.number(digest(&messages).as_bytes());
        let task = self.by_task.entry(attempt.task.clone()).or_default();
        if task.contains_key(&number) {
            self.exact_duplicates += 1;
            return;
        }
        if task.len() == most && task.keys().next_back().is_some_and(|last| *last < number) {
            return;
        }
        let sketch = MinHash::of(&joined(&messages));
        task.insert(number, Candidate { row, sketch });
        if task.len() > most {
            task.pop_last();
        }
    }

    /// Right attempts that may be used.
    pub(crate) fn open(&self) -> u64 {
        self.by_task.values().map(|task| task.len() as u64).sum()
    }
}

/// The rows of the file with their numbers, from 1.
pub(crate) fn rows(path: &Path) -> Result<impl Iterator<Item = Result<(u64, Trajectory)>>> {
    let wrong = move |source| Error::Rows {
        path: path.to_owned(),
        source,
    };
    let reader = Reader::<Trajectory>::open(path).map_err(wrong)?;
    let numbered = reader.zip(1..);
    Ok(numbered.map(move |(row, number)| Ok((number, row.map_err(wrong)?))))
}

/// The conversation of an attempt, cleaned. A text that has the whole conversation in it is taken apart; where it begins with
/// the prompt again, the prompt before it goes.
pub(crate) fn conversation(attempt: &Trajectory) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for message in &attempt.messages {
        if message.role != Role::Assistant {
            let text = clean(&message.content);
            if !text.is_empty() {
                messages.push(Message::new(message.role, text));
            }
            continue;
        }
        let parts = turns(&message.content);
        let again = parts.first().is_some_and(|first| first.role == Role::User);
        if again && messages.last().is_some_and(|last| last.role == Role::User) {
            messages.pop();
        }
        messages.extend(parts);
    }
    messages
}

/// BLAKE3 of roles and texts.
pub(crate) fn digest(messages: &[Message]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for message in messages {
        hasher.update(&[message.role as u8]);
        hasher.update(&(message.content.len() as u64).to_le_bytes());
        hasher.update(message.content.as_bytes());
    }
    hasher.finalize()
}

/// The texts one after the other.
pub(crate) fn joined(messages: &[Message]) -> String {
    let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
    texts.join("\n\n")
}
