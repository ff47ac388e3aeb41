//! Which tensors are complete, kept beside them so that a killed run repeats nothing.
//!
//! A line is appended when a tensor is complete. After a kill the system still holds every byte that was written, so
//! within one boot every whole line is believed. After a power cut only what was flushed counts: now and then the
//! shards are flushed, then a `flushed` line, then the journal; lines of another boot count up to the last of these.
//! (Flushing at every tensor is the simpler rule, and costs a small model ten times the work itself.)

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::write_error;
use crate::error::{Error, Result};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Job { plan: String, boot: String },
    Done(String),
    Flushed,
}

/// An append-only list of complete tensors.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// The tensors that an earlier run has completed; none if it had another plan, or there was none.
    pub(super) fn read(path: &Path, plan: &str) -> HashSet<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        // A line without its end was torn; it and what cannot be parsed end the list.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = whole
            .lines()
            .map_while(|line| serde_json::from_str(line).ok());
        let Some(Line::Job {
            plan: written,
            boot,
        }) = lines.next()
        else {
            return HashSet::new();
        };
        if written != plan {
            return HashSet::new();
        }
        let same_boot = boot_id().is_some_and(|now| now == boot);
        let (mut believed, mut pending) = (HashSet::new(), Vec::new());
        for line in lines {
            match line {
                Line::Done(tensor) => pending.push(tensor),
                Line::Flushed => believed.extend(pending.drain(..)),
                Line::Job { .. } => break,
            }
        }
        if same_boot {
            believed.extend(pending);
        }
        believed
    }

    /// Starts the file anew with these tensors, whose bytes must be flushed already.
    pub(super) fn start<'a>(
        path: &Path,
        plan: &str,
        done: impl Iterator<Item = &'a String>,
    ) -> Result<Journal> {
        let job = Line::Job {
            plan: plan.to_owned(),
            boot: boot_id().unwrap_or_default(),
        };
        let lines = std::iter::once(job)
            .chain(done.map(|t| Line::Done(t.clone())))
            .chain([Line::Flushed]);
        let text: String = lines.map(|line| text(&line)).collect();
        // Renamed into place, so that a kill leaves the old journal or this one; lost in a power cut, it is only work.
        let new = path.with_extension("new");
        fs::write(&new, text).map_err(Error::io("write", &new))?;
        fs::rename(&new, path).map_err(Error::io("rename into place", path))?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(Error::io("open", path))?;
        Ok(Journal {
            path: path.to_owned(),
            file,
        })
    }

    /// Notes a complete tensor.
    pub(super) fn done(&mut self, tensor: &str) -> Result<()> {
        self.append(&Line::Done(tensor.to_owned()))
    }

    /// Notes that everything noted so far is on the disk, and flushes that note.
    pub(super) fn flushed(&mut self) -> Result<()> {
        self.append(&Line::Flushed)?;
        self.file
            .sync_data()
            .map_err(Error::io("flush", &self.path))
    }

    fn append(&mut self, line: &Line) -> Result<()> {
        let text = text(line);
        self.file
            .write_all(text.as_bytes())
            .map_err(|source| write_error(&self.path, text.len() as u64, source))
    }
}

fn text(line: &Line) -> String {
    let value = serde_json::to_value(line).unwrap_or_default();
    format!("{value}\n")
}

/// Changes at every start of the machine; `None` where the system does not tell.
fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path, lines: &str) -> HashSet<String> {
        let path = dir.join("journal");
        fs::write(&path, lines.replace("BOOT", &boot_id().unwrap_or_default())).unwrap();
        Journal::read(&path, "p")
    }

    fn names(names: &[&str]) -> HashSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_torn_last_line_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"job\":{\"plan\":\"p\",\"boot\":\"BOOT\"}}\n{\"done\":\"a\"}\n{\"done\":\"b\"}\n{\"do";
        assert_eq!(written(dir.path(), lines), names(&["a", "b"]));
        let whole_but_unended = format!("{lines}ne\":\"c\"}}");
        assert_eq!(written(dir.path(), &whole_but_unended), names(&["a", "b"]));
    }

    #[test]
    fn after_another_boot_only_flushed_tensors_count() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"job\":{\"plan\":\"p\",\"boot\":\"x\"}}\n{\"done\":\"a\"}\n\"flushed\"\n{\"done\":\"b\"}\n";
        assert_eq!(written(dir.path(), lines), names(&["a"]));
    }

    #[test]
    fn the_journal_of_another_plan_counts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"job\":{\"plan\":\"q\",\"boot\":\"BOOT\"}}\n{\"done\":\"a\"}\n\"flushed\"\n";
        assert_eq!(written(dir.path(), lines), names(&[]));
    }

    #[test]
    fn a_started_journal_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let before = names(&["a"]);
        let mut journal = Journal::start(&path, "p", before.iter()).unwrap();
        journal.done("b").unwrap();
        journal.flushed().unwrap();
        assert_eq!(Journal::read(&path, "p"), names(&["a", "b"]));
    }
}
