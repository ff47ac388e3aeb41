//! The measurement row.

use crate::Record;
use serde::{Deserialize, Serialize};

/// One measured number and what it belongs to.
///
/// `metric` and `value` are always there; the rest narrows down what was measured, and is left out of the JSON when unknown.
/// Ratios and relative errors are plain numbers (0.05, never 5 percent) without a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "xgraft.row/1")]
pub struct Row {
    /// What was measured, in `snake_case`: `energy_kept`, `relative_error`, `accuracy`.
    pub metric: String,
    /// The measured number. Finite.
    pub value: f64,
    /// The unit of `value`, `lo` and `hi`: `s`, `bytes`, `tokens/s`. Absent for ratios and counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How many observations `value` summarises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The lower end of the interval for `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lo: Option<f64>,
    /// The upper end of the interval for `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hi: Option<f64>,
    /// The compared variant: a method, a rank, a peer (`A-r32`, `mergekit`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// The model or checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The module path inside the model: `model.layers.0.self_attn.q_proj`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The task of a benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Which repetition or pipeline run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The verb or program that measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Row {
    /// A row with a metric and its value only.
    pub fn new(metric: impl Into<String>, value: f64) -> Self {
        Self {
            metric: metric.into(),
            value,
            unit: None,
            n: None,
            lo: None,
            hi: None,
            arm: None,
            model: None,
            module: None,
            task: None,
            run: None,
            source: None,
        }
    }

    /// The row with a unit.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// The row with its number of observations.
    #[must_use]
    pub fn n(mut self, n: u64) -> Self {
        self.n = Some(n);
        self
    }

    /// The row with an interval around its value.
    #[must_use]
    pub fn interval(mut self, lo: f64, hi: f64) -> Self {
        self.lo = Some(lo);
        self.hi = Some(hi);
        self
    }

    /// The row with the variant it belongs to.
    #[must_use]
    pub fn arm(mut self, arm: impl Into<String>) -> Self {
        self.arm = Some(arm.into());
        self
    }

    /// The row with the model it belongs to.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The row with the module it belongs to.
    #[must_use]
    pub fn module(mut self, module: impl Into<String>) -> Self {
        self.module = Some(module.into());
        self
    }

    /// The row with the task it belongs to.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// The row with the run it belongs to.
    #[must_use]
    pub fn run(mut self, run: impl Into<String>) -> Self {
        self.run = Some(run.into());
        self
    }

    /// The row with the verb or program that measured it.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl Record for Row {
    const SCHEMA: &'static str = "xgraft.row/1";

    fn not_finite(&self) -> Option<&'static str> {
        let bad = |x: Option<f64>| x.is_some_and(|x| !x.is_finite());
        [
            ("value", Some(self.value)),
            ("lo", self.lo),
            ("hi", self.hi),
        ]
        .into_iter()
        .find_map(|(name, x)| bad(x).then_some(name))
    }
}
