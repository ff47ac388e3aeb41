//! What a run has found so far.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use xgraft_dataset::{Class, Question, Usage, Writer};

use super::RunError;
use super::claim::beside;
use super::config::Plan;
use super::ledger::Ledger;
use super::session::Shared;

/// The counts of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name and version of this file.
    pub schema: &'static str,
    /// The model that was asked.
    pub model: String,
    /// The compared variant.
    pub arm: String,
    /// Attempts that were planned.
    pub planned: u64,
    /// Whether every attempt has ended.
    pub complete: bool,
    /// All tasks together.
    pub all: TaskCounts,
    /// Each task.
    pub tasks: BTreeMap<String, TaskCounts>,
    /// Tokens of all answers that count.
    pub usage: Usage,
    /// Why attempts of this process have no score, and how many: what the endpoint said.
    #[serde(skip)]
    pub failures: BTreeMap<String, u64>,
}

/// How the attempts at one task ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskCounts {
    /// Attempts with a score of 1.
    pub right: u64,
    /// Attempts with an answer that is wrong.
    pub wrong: u64,
    /// Attempts without an answer of the task's form.
    pub unparsed: u64,
    /// Attempts that reached a limit first.
    pub overflow: u64,
}

impl TaskCounts {
    /// Attempts with a score.
    #[must_use]
    pub fn scored(&self) -> u64 {
        self.right + self.wrong + self.unparsed + self.overflow
    }

    /// The share of right ones among those with a score.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        let scored = self.scored();
        (scored > 0).then(|| self.right as f64 / scored as f64)
    }

    fn add(&mut self, class: Class) {
        match class {
            Class::Right => self.right += 1,
            Class::Wrong => self.wrong += 1,
            Class::Unparsed => self.unparsed += 1,
            Class::Overflow => self.overflow += 1,
            Class::Infrastructure => {}
        }
    }
}

impl Report {
    pub(crate) fn make(
        plan: &Plan,
        questions: &[Question],
        ledger: &Ledger,
        failures: u64,
        ended: bool,
    ) -> Self {
        let mut report = Self {
            schema: "xgraft.eval/1",
            model: plan.model.clone(),
            arm: plan.arm.clone(),
            planned: questions.len() as u64 * u64::from(plan.repeat),
            complete: false,
            all: TaskCounts::default(),
            tasks: BTreeMap::new(),
            usage: Usage::default(),
            failures: BTreeMap::new(),
        };
        for ((place, _), brief) in ledger.done() {
            let task = questions[place].task.clone();
            report.tasks.entry(task).or_default().add(brief.class);
            report.all.add(brief.class);
            let usage = brief.usage.unwrap_or_default();
            report.usage.prompt_tokens += usage.prompt_tokens;
            report.usage.completion_tokens += usage.completion_tokens;
        }
        report.complete = ended && failures == 0 && report.all.scored() == report.planned;
        report
    }

    /// Attempts that have no score.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.planned - self.all.scored()
    }

    /// The mean of the tasks' accuracies.
    #[must_use]
    pub fn macro_accuracy(&self) -> Option<f64> {
        let rates: Vec<f64> = self
            .tasks
            .values()
            .filter_map(TaskCounts::accuracy)
            .collect();
        (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64)
    }

    /// Writes `answers.jsonl` and `report.json`, each in one step.
    pub(crate) fn write(
        &self,
        shared: &Shared,
        questions: &[Question],
        ledger: &Ledger,
    ) -> Result<(), RunError> {
        let out = &shared.work.out;
        in_one_step(&out.join("answers.jsonl"), |path| {
            let mut writer = Writer::create(path)?;
            for place in 0..questions.len() {
                for run in 0..shared.plan.repeat {
                    if let Some(mut trajectory) = ledger.trajectory((place, run))? {
                        trajectory.timing = None;
                        writer.write(&trajectory)?;
                    }
                }
            }
            Ok(writer.finish()?)
        })?;
        in_one_step(&out.join("report.json"), |path| {
            let bytes = serde_json::to_vec_pretty(self);
            let mut bytes = bytes.map_err(|source| RunError::Encode { source })?;
            bytes.push(b'\n');
            std::fs::write(path, bytes).map_err(RunError::io("write", path))
        })
    }
}

/// Several processes may end at once: each writes a file of its own and renames it.
fn in_one_step(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let mine = beside(path);
    write(&mine)?;
    std::fs::rename(&mine, path).map_err(RunError::io("rename", &mine))
}
