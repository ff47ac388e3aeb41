//! Arms out of finished attempts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use xgraft_dataset::{Class, Trajectory};

use super::{Arm, Scoring, Size, StatsError};
use crate::annotate::{FOLDER, Key, LABELS, LabelRow, read_labels};
use crate::attempts;
use crate::run::Plan;

/// What somebody who served the arm of a run left in its folder.
const SERVED: &str = "served.json";

/// Bytes that an arm took while it was served.
#[derive(Deserialize)]
struct Served {
    /// Files of weights, of the model and the adapter.
    stored_bytes: u64,
    /// Resident memory of one server, with all adapters that it had.
    resident_bytes: Option<u64>,
}

/// The cluster of each question that has one, by its id.
pub type Clusters = HashMap<String, String>;

/// Reads a run's folder, or a file of trajectories or of result rows of the published harness.
///
/// With `name`, all attempts are of one arm of that name. By [`Scoring::Judged`] an attempt counts as its label in the run's
/// annotation says; one without a label counts by its official score. `served.json` in a run's folder says what its arm took
/// of memory: `stored_bytes`, `resident_bytes`.
///
/// # Errors
/// A file cannot be read, has a row that is none, has one attempt twice, or is without labels where they were asked for.
pub fn read_arms(
    path: &Path,
    name: Option<&str>,
    scoring: Scoring,
    clusters: &Clusters,
) -> Result<Vec<Arm>, StatsError> {
    let rows = |source: Box<dyn std::error::Error + Send + Sync>| StatsError::Rows {
        path: path.to_owned(),
        source,
    };
    let file = path.join(FOLDER).join(LABELS);
    let labels = match path.is_dir() {
        true => read_labels(&file).map_err(|error| rows(error.into()))?,
        false => HashMap::new(),
    };
    if scoring == Scoring::Judged && labels.is_empty() {
        return Err(StatsError::Labels { path: file });
    }
    let mut counter = Counter {
        name: name.map(str::to_owned),
        scoring,
        labels,
        arms: BTreeMap::new(),
    };
    for attempt in attempts::read(path, attempts::Text::Drop).map_err(|error| rows(error.into()))? {
        counter.add(&attempt.at, &attempt.trajectory, clusters)?;
    }
    let mut arms: Vec<Arm> = counter.arms.into_values().collect();
    let synthetic = Plan::is_synthetic(path);
    for arm in &mut arms {
        arm.synthetic = synthetic;
    }
    if let ([arm], Some(served)) = (&mut arms[..], served(path)?) {
        arm.size = Some(Size {
            published: None,
            computed: served.stored_bytes as f64 / 1e9,
        });
        arm.resident = served.resident_bytes.map(|bytes| bytes as f64 / 1e9);
    }
    Ok(arms)
}

fn served(run: &Path) -> Result<Option<Served>, StatsError> {
    let path = run.join(SERVED);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(|source| StatsError::Read {
        path: path.clone(),
        source,
    })?;
    let served = serde_json::from_slice(&text).map_err(|source| StatsError::Parse {
        path,
        expected: "`stored_bytes` and, where known, `resident_bytes`",
        source,
    })?;
    Ok(Some(served))
}

struct Counter {
    name: Option<String>,
    scoring: Scoring,
    labels: HashMap<Key, LabelRow>,
    arms: BTreeMap<String, Arm>,
}

impl Counter {
    fn add(
        &mut self,
        at: &str,
        attempt: &Trajectory,
        clusters: &Clusters,
    ) -> Result<(), StatsError> {
        let name = self.name.as_ref().unwrap_or(&attempt.arm).clone();
        let (class, other) = self.classes(attempt);
        let scoring = self.scoring;
        let arm = self.arms.entry(name).or_insert_with_key(|name| Arm {
            scoring,
            ..Arm::new(name)
        });
        arm.tasks
            .entry(attempt.task.clone())
            .or_default()
            .add(class);
        if let Some(other) = other {
            let tasks = arm.other.get_or_insert_default();
            tasks.entry(attempt.task.clone()).or_default().add(other);
        }
        if let Some(timing) = attempt.timing {
            *arm.seconds.get_or_insert(0.0) += timing.total_ms / 1e3;
        }
        if class == Class::Infrastructure {
            return Ok(());
        }
        let key = (attempt.task.clone(), attempt.question.clone());
        let attempts = arm.questions.entry(key).or_default();
        attempts.cluster = clusters.get(&attempt.question).cloned();
        let score = f64::from(u8::from(class == Class::Right));
        match attempts.scores.insert(attempt.run.clone(), score) {
            None => Ok(()),
            Some(_) => Err(StatsError::Duplicate {
                at: at.to_owned(),
                question: attempt.question.clone(),
                run: attempt.run.clone(),
                arm: arm.name.clone(),
            }),
        }
    }

    /// What the attempt counts as, and by the other scoring.
    fn classes(&self, attempt: &Trajectory) -> (Class, Option<Class>) {
        let strict = attempt.class;
        if self.labels.is_empty() {
            return (strict, None);
        }
        let label = self.labels.get(&Key::of(attempt));
        let judged = label.map_or(strict, LabelRow::judged);
        match self.scoring {
            Scoring::Strict => (strict, Some(judged)),
            Scoring::Judged => (judged, Some(strict)),
        }
    }
}
