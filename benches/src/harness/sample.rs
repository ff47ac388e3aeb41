//! What the programs printed.

use serde::Serialize;
use serde_json::Value;

/// One line of one program.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// `xgraft`, `peer` or `llama.cpp`.
    pub who: String,
    /// What was compared: `svd-5120x5120`.
    pub group: String,
    /// Which turn.
    pub round: u32,
    /// What was called.
    pub command: String,
    /// The line: `case`, `cpu_s`, `wall_s`, `peak_rss_mib`, and whatever else the case tells.
    pub line: Value,
}

/// Every sample of a run.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// The lines of one case of one group.
    pub fn of<'a>(&'a self, group: &'a str, case: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0
            .iter()
            .filter(move |sample| sample.group == group && sample.line["case"] == case)
            .map(|sample| &sample.line)
    }

    /// The smallest of a field of numbers, over all rounds and repetitions.
    #[must_use]
    pub fn smallest(&self, group: &str, case: &str, field: &str) -> Option<f64> {
        self.numbers(group, case, field)
            .into_iter()
            .reduce(f64::min)
    }

    /// The largest likewise.
    #[must_use]
    pub fn largest(&self, group: &str, case: &str, field: &str) -> Option<f64> {
        self.numbers(group, case, field)
            .into_iter()
            .reduce(f64::max)
    }

    /// The median likewise.
    #[must_use]
    pub fn median(&self, group: &str, case: &str, field: &str) -> Option<f64> {
        let mut numbers = self.numbers(group, case, field);
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        match numbers.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(numbers[middle]),
            _ => Some(0.5 * (numbers[middle - 1] + numbers[middle])),
        }
    }

    /// Every number of a field, which may be one or a list.
    fn numbers(&self, group: &str, case: &str, field: &str) -> Vec<f64> {
        let mut numbers = Vec::new();
        for line in self.of(group, case) {
            match &line[field] {
                Value::Array(list) => numbers.extend(list.iter().filter_map(Value::as_f64)),
                other => numbers.extend(other.as_f64()),
            }
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn samples() -> Samples {
        let sample = |round, line| Sample {
            who: "xgraft".to_owned(),
            group: "g".to_owned(),
            round,
            command: String::new(),
            line,
        };
        Samples(vec![
            sample(
                0,
                json!({"case": "a", "cpu_s": [3.0, 2.0], "peak_rss_mib": 10}),
            ),
            sample(
                1,
                json!({"case": "a", "cpu_s": [4.0, 5.0], "peak_rss_mib": 12}),
            ),
            sample(1, json!({"case": "b", "cpu_s": [1.0]})),
        ])
    }

    #[test]
    fn numbers_of_all_rounds_are_taken_together_and_cases_apart() {
        let samples = samples();
        assert_eq!(samples.smallest("g", "a", "cpu_s"), Some(2.0));
        assert_eq!(samples.median("g", "a", "cpu_s"), Some(3.5));
        assert_eq!(samples.largest("g", "a", "peak_rss_mib"), Some(12.0));
    }

    #[test]
    fn what_was_not_measured_is_missing() {
        assert_eq!(samples().smallest("g", "c", "cpu_s"), None);
        assert_eq!(samples().median("h", "a", "cpu_s"), None);
    }
}
