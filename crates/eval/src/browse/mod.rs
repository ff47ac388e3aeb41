//! Every question with what the arms said to it, as a part of a page that loads nothing.
//!
//! Conversations are large and alike, so each text is kept once, all are packed with gzip, and the reader's browser unpacks
//! them when the first question is opened. A page of 433 questions and two arms of long trajectories stays small enough to be
//! sent by mail.
//!
//! **Invariant:** what a model said reaches the page as text and never as markup.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use xgraft_dataset::{Class, Role, Trajectory};

use crate::annotate::{By, FOLDER, Key, LABELS, Label, LabelRow, read_labels};
use crate::attempts::{self, Text};

const SECTION: &str = include_str!("section.html");
/// Where the packed questions go.
const PLACE: &str = "{{questions}}";

/// A run and what its arm is called; without a name as its rows say.
#[derive(Clone, Debug)]
pub struct Run {
    /// The arm's name.
    pub name: Option<String>,
    /// A run's folder or a file of trajectories.
    pub path: PathBuf,
}

/// A run that cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrowseError {
    /// Its attempts cannot be read.
    #[error("cannot read the attempts of {}", path.display())]
    Attempts {
        /// The run.
        path: PathBuf,
        /// The cause.
        source: xgraft_dataset::Error,
    },
    /// Its labels cannot be read.
    #[error("cannot read the annotation of {}", path.display())]
    Labels {
        /// The run.
        path: PathBuf,
        /// The cause.
        source: crate::annotate::LogError,
    },
    /// What they say cannot be packed.
    #[error("cannot pack the questions")]
    Pack {
        /// The cause.
        source: std::io::Error,
    },
}

/// The part of a page: markup, style, script and data, for the end of a `<main>`.
///
/// # Errors
/// A run or its labels cannot be read.
pub fn section(runs: &[Run]) -> Result<String, BrowseError> {
    let mut all = All::default();
    for run in runs {
        all.read(run)?;
    }
    let packed = all
        .packed()
        .map_err(|source| BrowseError::Pack { source })?;
    Ok(SECTION.replacen(PLACE, &packed, 1))
}

/// What the page has.
#[derive(Debug, Default, Serialize)]
struct All {
    arms: Vec<String>,
    questions: Vec<Question>,
    /// Every text once.
    texts: Vec<String>,
    #[serde(skip)]
    known: HashMap<String, usize>,
    #[serde(skip)]
    places: BTreeMap<(String, String), usize>,
}

#[derive(Debug, Serialize)]
struct Question {
    id: String,
    task: String,
    reference: Option<String>,
    /// By the index of the arm.
    attempts: Vec<Attempt>,
}

#[derive(Debug, Serialize)]
struct Attempt {
    arm: usize,
    run: String,
    class: Class,
    score: Option<f64>,
    answer: Option<String>,
    detail: Option<String>,
    label: Option<Label>,
    by: Option<By>,
    /// Who speaks, and the index of the text.
    messages: Vec<(Role, usize)>,
}

impl All {
    fn read(&mut self, run: &Run) -> Result<(), BrowseError> {
        let labels = labels(&run.path)?;
        let read = attempts::read(&run.path, Text::Keep);
        let read = read.map_err(|source| BrowseError::Attempts {
            path: run.path.clone(),
            source,
        })?;
        for attempt in read {
            self.add(run.name.as_deref(), attempt.trajectory, &labels);
        }
        Ok(())
    }

    fn add(&mut self, name: Option<&str>, said: Trajectory, labels: &HashMap<Key, LabelRow>) {
        let label = labels.get(&Key::of(&said));
        let name = name.unwrap_or(&said.arm).to_owned();
        let arm = self.arms.iter().position(|arm| *arm == name);
        let arm = arm.unwrap_or_else(|| {
            self.arms.push(name);
            self.arms.len() - 1
        });
        let messages = said.messages.into_iter();
        let messages = messages.map(|m| (m.role, self.text(m.content))).collect();
        let place = (said.task.clone(), said.question.clone());
        let at = *self.places.entry(place).or_insert_with(|| {
            self.questions.push(Question {
                id: said.question,
                task: said.task,
                reference: said.reference,
                attempts: Vec::new(),
            });
            self.questions.len() - 1
        });
        self.questions[at].attempts.push(Attempt {
            arm,
            run: said.run,
            class: said.class,
            score: said.score,
            answer: said.answer,
            detail: said.detail,
            label: label.map(|row| row.label),
            by: label.map(|row| row.by),
            messages,
        });
    }

    fn text(&mut self, text: String) -> usize {
        let next = self.texts.len();
        let at = *self.known.entry(text.clone()).or_insert(next);
        if at == next {
            self.texts.push(text);
        }
        at
    }

    /// gzip in base64 has no character that could end a script.
    fn packed(&self) -> std::io::Result<String> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        serde_json::to_writer(&mut encoder, self)?;
        encoder.flush()?;
        Ok(STANDARD.encode(encoder.finish()?))
    }
}

fn labels(path: &Path) -> Result<HashMap<Key, LabelRow>, BrowseError> {
    let file = path.join(FOLDER).join(LABELS);
    if !file.is_file() {
        return Ok(HashMap::new());
    }
    read_labels(&file).map_err(|source| BrowseError::Labels {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use xgraft_dataset::Message;

    use super::*;

    fn said(question: &str, arm: &str, text: &str) -> Trajectory {
        Trajectory {
            question: question.to_owned(),
            task: "screen".to_owned(),
            model: "m".to_owned(),
            arm: arm.to_owned(),
            run: "0".to_owned(),
            seed: 0,
            messages: vec![
                Message::new(Role::User, "Which gene?"),
                Message::new(Role::Assistant, text),
            ],
            answer: Some(text.to_owned()),
            reference: Some("SCN1A".to_owned()),
            score: Some(1.0),
            class: Class::Right,
            detail: None,
            executions: 0,
            usage: None,
            timing: None,
        }
    }

    #[test]
    fn texts_are_kept_once_and_markup_stays_text() {
        let mut all = All::default();
        let none = HashMap::new();
        all.add(None, said("q1", "base", "</script><b>x</b>"), &none);
        all.add(None, said("q1", "tuned", "SCN1A"), &none);
        assert_eq!((all.questions.len(), all.texts.len()), (1, 3));
        let packed = all.packed().unwrap();
        assert!(
            packed
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
        );
        let mut text = String::new();
        let bytes = STANDARD.decode(packed).unwrap();
        GzDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["arms"], serde_json::json!(["base", "tuned"]));
        assert_eq!(read["questions"][0]["attempts"][1]["messages"][1][1], 2);
    }

    #[test]
    fn the_section_has_one_place_for_the_questions() {
        assert_eq!(SECTION.matches(PLACE).count(), 1);
        let outside = ["http://", "https://", "src=", "@import"];
        assert!(outside.iter().all(|text| !SECTION.contains(text)));
    }
}
