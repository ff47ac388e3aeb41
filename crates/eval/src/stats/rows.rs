//! An arm out of finished attempts.

use std::collections::BTreeMap;
use std::path::Path;

use xgraft_dataset::{Class, Trajectory};

use super::{Arm, StatsError};

/// Counts finished attempts into arms.
#[derive(Debug, Default)]
pub struct Counter {
    arms: BTreeMap<String, Arm>,
}

impl Counter {
    /// Counts one attempt, which came from `at`.
    ///
    /// `name` is the arm's name, where it is not the attempt's own. `cluster` names what the question hangs together with.
    ///
    /// # Errors
    /// The same repetition of the question was counted before.
    pub fn add(
        &mut self,
        at: &str,
        name: Option<&str>,
        attempt: &Trajectory,
        cluster: Option<&str>,
    ) -> Result<(), StatsError> {
        let name = name.unwrap_or(&attempt.arm);
        let arm = self
            .arms
            .entry(name.to_owned())
            .or_insert_with(|| Arm::new(name));
        arm.tasks
            .entry(attempt.task.clone())
            .or_default()
            .add(attempt.class);
        if let Some(timing) = attempt.timing {
            *arm.seconds.get_or_insert(0.0) += timing.total_ms / 1e3;
        }
        if attempt.class == Class::Infrastructure {
            return Ok(());
        }
        let key = (attempt.task.clone(), attempt.question.clone());
        let attempts = arm.questions.entry(key).or_default();
        attempts.cluster = cluster.map(str::to_owned);
        let score = f64::from(u8::from(attempt.class == Class::Right));
        match attempts.scores.insert(attempt.run.clone(), score) {
            None => Ok(()),
            Some(_) => Err(StatsError::Duplicate {
                at: at.to_owned(),
                question: attempt.question.clone(),
                run: attempt.run.clone(),
                arm: name.to_owned(),
            }),
        }
    }

    /// The arms, in the order of their names.
    #[must_use]
    pub fn into_arms(self) -> Vec<Arm> {
        self.arms.into_values().collect()
    }
}

/// Reads a JSONL or Parquet file of trajectories, or of result rows of the published harness.
///
/// # Errors
/// The file cannot be read, has a row that is none, or one attempt twice.
pub fn read_trajectories(path: &Path, name: Option<&str>) -> Result<Vec<Arm>, StatsError> {
    let wrong = |source: xgraft_dataset::Error| StatsError::Rows {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let mut reader = xgraft_dataset::Reader::<Trajectory>::open(path).map_err(wrong)?;
    let mut counter = Counter::default();
    while let Some(attempt) = reader.next() {
        counter.add(&reader.at(), name, &attempt.map_err(wrong)?, None)?;
    }
    Ok(counter.into_arms())
}
