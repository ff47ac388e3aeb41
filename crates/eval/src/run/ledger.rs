//! What the logs of a run say: read again and again, each byte once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use xgraft_dataset::{Class, Trajectory, Usage};

use super::RunError;

/// Question and repetition, by their places.
pub(crate) type Key = (usize, u32);

/// What is known of a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// It has an answer.
    Done { generation: u32, brief: Brief },
    /// Its last claim came to nothing: the endpoint failed, or the process was asked to stop.
    Open { generation: u32, failed: bool },
}

/// The little of an answer that tables need.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Brief {
    question: String,
    run: String,
    pub(crate) class: Class,
    #[serde(default)]
    pub(crate) usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    question: Option<String>,
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    generation: u32,
    #[serde(default)]
    trajectory: Option<Brief>,
}

/// Where an answer stands.
#[derive(Debug)]
struct Place {
    generation: u32,
    file: PathBuf,
    line: usize,
    start: u64,
    length: usize,
}

/// All logs of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
    places: HashMap<String, usize>,
    files: HashMap<PathBuf, Tail>,
    states: HashMap<Key, State>,
    answers: HashMap<Key, Place>,
}

#[derive(Debug, Default)]
struct Tail {
    offset: u64,
    line: usize,
}

impl Ledger {
    /// The logs in `folder`, of questions with these ids.
    pub(crate) fn new<'a>(folder: &Path, ids: impl Iterator<Item = &'a str>) -> Self {
        Self {
            folder: folder.to_owned(),
            places: ids.enumerate().map(|(i, id)| (id.to_owned(), i)).collect(),
            files: HashMap::new(),
            states: HashMap::new(),
            answers: HashMap::new(),
        }
    }

    pub(crate) fn state(&self, key: Key) -> Option<&State> {
        self.states.get(&key)
    }

    /// Every answer that there is.
    pub(crate) fn done(&self) -> impl Iterator<Item = (Key, &Brief)> {
        self.states.iter().filter_map(|(key, state)| match state {
            State::Done { brief, .. } => Some((*key, brief)),
            State::Open { .. } => None,
        })
    }

    /// Every attempt whose last claim came to nothing, and whether the endpoint failed it.
    pub(crate) fn opened(&self) -> impl Iterator<Item = (Key, bool)> {
        self.states.iter().filter_map(|(key, state)| match state {
            State::Done { .. } => None,
            State::Open { failed, .. } => Some((*key, *failed)),
        })
    }

    /// Reads what was added since the last time. The end of a file without a line's end is left for the next time, or for
    /// ever if its writer was killed.
    pub(crate) fn refresh(&mut self) -> Result<(), RunError> {
        let entries =
            std::fs::read_dir(&self.folder).map_err(RunError::io("read", &self.folder))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(RunError::io("read", &self.folder))?.path();
            if path.extension().is_some_and(|ending| ending == "jsonl") {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            self.read(path)?;
        }
        Ok(())
    }

    fn read(&mut self, path: PathBuf) -> Result<(), RunError> {
        let tail = self.files.entry(path.clone()).or_default();
        let mut file = File::open(&path).map_err(RunError::io("read", &path))?;
        let length = file.metadata().map_err(RunError::io("read", &path))?.len();
        if length <= tail.offset {
            return Ok(());
        }
        let (mut start, mut number) = (tail.offset, tail.line);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(RunError::io("read", &path))?;
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            if !line.ends_with(b"\n") {
                break;
            }
            number += 1;
            self.note(line, &path, number, start)?;
            start += line.len() as u64;
        }
        self.files.insert(
            path,
            Tail {
                offset: start,
                line: number,
            },
        );
        Ok(())
    }

    fn note(
        &mut self,
        bytes: &[u8],
        path: &Path,
        number: usize,
        start: u64,
    ) -> Result<(), RunError> {
        let line: Line = serde_json::from_slice(bytes).map_err(|source| RunError::Event {
            at: format!("{}:{number}", path.display()),
            source,
        })?;
        let (question, run) = match &line.trajectory {
            Some(brief) => (Some(brief.question.clone()), Some(brief.run.clone())),
            None => (line.question, line.run),
        };
        let place = question.and_then(|id| self.places.get(&id).copied());
        let run = run.and_then(|run| run.parse().ok());
        let (Some(place), Some(run)) = (place, run) else {
            return Ok(());
        };
        let key = (place, run);
        match (line.event.as_str(), line.trajectory) {
            ("answer", Some(brief)) => {
                let place = Place {
                    generation: line.generation,
                    file: path.to_owned(),
                    line: number,
                    start,
                    length: bytes.len(),
                };
                self.answered(key, place, brief);
            }
            ("failed", _) => self.note_open(key, line.generation, true),
            ("released", _) => self.note_open(key, line.generation, false),
            _ => {}
        }
        Ok(())
    }

    /// Of several answers that of the least generation counts, whoever reads them in whatever order.
    fn answered(&mut self, key: Key, place: Place, brief: Brief) {
        let rank = |place: &Place| (place.generation, place.file.clone(), place.start);
        let known = self.answers.get(&key);
        if known.is_some_and(|known| rank(known) <= rank(&place)) {
            return;
        }
        let generation = place.generation;
        self.states.insert(key, State::Done { generation, brief });
        self.answers.insert(key, place);
    }

    fn note_open(&mut self, key: Key, generation: u32, failed: bool) {
        let newer = match self.states.get(&key) {
            None => true,
            Some(State::Done { .. }) => false,
            Some(State::Open {
                generation: known, ..
            }) => *known <= generation,
        };
        if newer {
            self.states.insert(key, State::Open { generation, failed });
        }
    }

    /// The answer of a question, read again from its log.
    pub(crate) fn trajectory(&self, key: Key) -> Result<Option<Trajectory>, RunError> {
        let Some(place) = self.answers.get(&key) else {
            return Ok(None);
        };
        let mut bytes = vec![0; place.length];
        let mut file = File::open(&place.file).map_err(RunError::io("read", &place.file))?;
        file.seek(SeekFrom::Start(place.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(RunError::io("read", &place.file))?;
        let at = format!("{}:{}", place.file.display(), place.line);
        let event = |source| RunError::Event {
            at: at.clone(),
            source,
        };
        let mut line: Value = serde_json::from_slice(&bytes).map_err(event)?;
        let trajectory = line["trajectory"].take();
        Ok(Some(xgraft_dataset::decode(trajectory, &at)?))
    }
}
