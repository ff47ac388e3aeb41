//! One line, and how its numbers are written.

use super::super::{Goal, Line, table::times};

impl Line {
    /// A line of a ratio of which nothing is known yet.
    pub(super) fn new(what: String) -> Self {
        Self {
            metric: "",
            what,
            from: String::new(),
            value: None,
            show: times,
            must: None,
            aim: None,
        }
    }

    pub(super) fn named(self, metric: &'static str) -> Self {
        Self { metric, ..self }
    }

    pub(super) fn must(self, goal: Goal) -> Self {
        Self {
            must: Some(goal),
            ..self
        }
    }

    pub(super) fn aim(self, goal: Goal) -> Self {
        Self {
            aim: Some(goal),
            ..self
        }
    }
}

pub(super) fn signed(value: f64) -> String {
    format!("{:+.1} %", 100.0 * value)
}

pub(super) fn one_decimal(value: Option<f64>) -> String {
    value.map_or_else(missing, |value| format!("{value:.1}"))
}

pub(super) fn three_decimals(value: Option<f64>) -> String {
    value.map_or_else(missing, |value| format!("{value:.3}"))
}

pub(super) fn missing() -> String {
    "missing".to_owned()
}
