//! The annotation of one run, on disk.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::judge::{AskError, Done, JudgeError, Judgement, Pace, judge};
use super::log::line;
use super::{
    Decision, Entry, FOLDER, HUMAN_LOG, Item, JUDGE_LOG, LABELS, Log, LogError, SIGNALS, Signals,
    Summary, Triage, aggregate, signals,
};
use crate::attempts;
use crate::review::Case;

/// A run that cannot be annotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotateError {
    /// The run's attempts cannot be read.
    #[error("cannot read the run {}", run.display())]
    Attempts {
        /// The run's folder.
        run: PathBuf,
        /// The cause.
        source: xgraft_dataset::Error,
    },
    /// An attempt does not say what the right answer is.
    #[error(
        "the attempt at question {question} has no `reference`; annotate a run of this version, or add the column"
    )]
    NoReference {
        /// The question.
        question: String,
    },
    /// The path is a file.
    #[error("{} is no folder of a run", run.display())]
    NotRun {
        /// The path.
        run: PathBuf,
    },
    /// A file of the annotation cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A log of the annotation is damaged or in use.
    #[error("cannot use the annotation")]
    Log {
        /// The cause.
        #[from]
        source: LogError,
    },
    /// Judging stopped.
    #[error("judging stopped")]
    Judge {
        /// The cause.
        #[from]
        source: JudgeError,
    },
}

/// The annotation of one run.
#[derive(Debug)]
pub struct Annotation {
    folder: PathBuf,
    items: Vec<(Item, Signals)>,
}

impl Annotation {
    /// Reads the attempts of a run, and writes down what stands in their texts: the first step.
    ///
    /// # Errors
    /// The run cannot be read or written, or its attempts have no reference answers.
    pub fn open(run: &Path) -> Result<Self, AnnotateError> {
        if !run.is_dir() {
            return Err(AnnotateError::NotRun {
                run: run.to_owned(),
            });
        }
        let attempts = attempts::read(run, attempts::Text::Keep);
        let attempts = attempts.map_err(|source| AnnotateError::Attempts {
            run: run.to_owned(),
            source,
        })?;
        let items = attempts.iter().map(|attempt| {
            let item = Item::of(&attempt.trajectory);
            let item = item.ok_or_else(|| AnnotateError::NoReference {
                question: attempt.trajectory.question.clone(),
            })?;
            let signals = signals(&item);
            Ok((item, signals))
        });
        let annotation = Self {
            folder: run.join(FOLDER),
            items: items.collect::<Result<_, AnnotateError>>()?,
        };
        let folder = &annotation.folder;
        fs::create_dir_all(folder).map_err(|source| AnnotateError::Write {
            path: folder.clone(),
            source,
        })?;
        let all = annotation.items.iter().map(|(_, signals)| signals);
        write(&folder.join(SIGNALS), all)?;
        Ok(annotation)
    }

    fn left(&self) -> impl Iterator<Item = (&Item, &Signals)> {
        let all = self.items.iter().map(|(item, signals)| (item, signals));
        all.filter(|(_, signals)| signals.triage == Triage::Unclear)
    }

    /// The judgements that there are.
    ///
    /// # Errors
    /// The log is damaged.
    pub fn judgements(&self) -> Result<Vec<Judgement>, AnnotateError> {
        Ok(Log::read(&self.folder.join(JUDGE_LOG))?)
    }

    /// Asks the judge about what the rules leave: the second step. `elsewhere` are judgements of other runs, which serve for
    /// equal questions.
    ///
    /// # Errors
    /// Another process is judging this run, or the judge refuses.
    pub fn judge(
        &self,
        model: &str,
        elsewhere: &[Judgement],
        pace: Pace,
        ask: &(dyn Fn(&str) -> Result<String, AskError> + Sync),
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Done, AnnotateError> {
        let (log, mut known) = Log::open::<Judgement>(&self.folder.join(JUDGE_LOG))?;
        known.extend_from_slice(elsewhere);
        let left: Vec<_> = self.left().collect();
        Ok(judge(model, &left, &known, &log, pace, ask, progress)?)
    }

    /// What people see: the third step. The log of their decisions is the second of the pair.
    ///
    /// # Errors
    /// The judge's log is damaged.
    pub fn cases(&self) -> Result<(Vec<Case>, PathBuf), AnnotateError> {
        let judgements = self.judgements()?.into_iter();
        let mut last: HashMap<_, _> = judgements.map(|j| (j.key.clone(), j)).collect();
        let cases = self.items.iter().map(|(item, signals)| Case {
            item: item.clone(),
            signals: signals.clone(),
            judgement: last.remove(&item.key),
        });
        Ok((cases.collect(), self.folder.join(HUMAN_LOG)))
    }

    /// Writes the labels: the fourth step.
    ///
    /// # Errors
    /// A log is damaged, or the labels cannot be written.
    pub fn finish(&self) -> Result<Vec<Summary>, AnnotateError> {
        let decisions: Vec<Decision> = Log::read(&self.folder.join(HUMAN_LOG))?;
        let (rows, summaries) = aggregate(&self.items, &self.judgements()?, &decisions);
        write(&self.folder.join(LABELS), &rows)?;
        Ok(summaries)
    }
}

/// Writes a file in one go: it is whole or as it was.
fn write<'a, T: Entry + 'a>(
    path: &Path,
    entries: impl IntoIterator<Item = &'a T>,
) -> Result<(), AnnotateError> {
    let lines = entries.into_iter().map(line);
    let text = lines.collect::<Result<String, _>>()?;
    let failed = |source| AnnotateError::Write {
        path: path.to_owned(),
        source,
    };
    let part = path.with_extension("part");
    fs::write(&part, text).map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}
