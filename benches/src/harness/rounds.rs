//! Numbers of a round, and the median of the rounds.

use super::{Sample, Samples};
use serde_json::Value;

/// The samples of a suite.
pub(super) struct Rounds<'a> {
    /// With which the names of its groups begin.
    pub(super) suite: &'static str,
    pub(super) samples: &'a Samples,
}

impl<'a> Rounds<'a> {
    /// The name under which a group of the suite is kept.
    pub(super) fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.suite)
    }

    /// The median over the rounds of what `number` finds in one.
    pub(super) fn median(&self, number: impl Fn(u32) -> Option<f64>) -> Option<f64> {
        let rounds = self.samples.0.iter().map(|sample| sample.round).max()?;
        let mut found: Vec<f64> = (0..=rounds).filter_map(number).collect();
        found.sort_by(f64::total_cmp);
        let middle = found.len() / 2;
        match found.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(found[middle]),
            _ => Some(0.5 * (found[middle - 1] + found[middle])),
        }
    }

    /// The smallest number of a field of one case in one round.
    pub(super) fn least(&self, round: u32, at: (&str, &str), field: &str) -> Option<f64> {
        self.numbers(Some(round), at, field).reduce(f64::min)
    }

    /// The largest likewise.
    pub(super) fn most(&self, round: u32, at: (&str, &str), field: &str) -> Option<f64> {
        self.numbers(Some(round), at, field).reduce(f64::max)
    }

    /// All numbers of a field of a case.
    pub(super) fn numbers(
        &self,
        round: Option<u32>,
        at: (&str, &str),
        field: &str,
    ) -> impl Iterator<Item = f64> {
        let lines = self.lines(round, at);
        lines.flat_map(move |line| numbers_of(&line[field]).collect::<Vec<_>>())
    }

    /// The lines of a case; of all rounds where none is named.
    pub(super) fn lines(
        &self,
        round: Option<u32>,
        (group, case): (&str, &str),
    ) -> impl Iterator<Item = &'a Value> {
        let (group, case) = (self.group(group), case.to_owned());
        let samples: &'a [Sample] = &self.samples.0;
        samples
            .iter()
            .filter(move |sample| sample.group == group && sample.line["case"] == *case)
            .filter(move |sample| round.is_none_or(|round| sample.round == round))
            .map(|sample| &sample.line)
    }
}

/// A number, or the numbers of a list.
pub(super) fn numbers_of(value: &Value) -> impl Iterator<Item = f64> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        other => std::slice::from_ref(other),
    };
    list.iter().filter_map(Value::as_f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn samples() -> Samples {
        let sample = |round, wall: [f64; 2]| Sample {
            who: "xgraft".to_owned(),
            group: "serve-a".to_owned(),
            round,
            command: String::new(),
            line: json!({"case": "base-b1", "decode_wall": wall}),
        };
        Samples(vec![
            sample(0, [2.0, 1.0]),
            sample(1, [3.0, 4.0]),
            sample(2, [9.0, 8.0]),
        ])
    }

    fn rounds(samples: &Samples) -> Rounds<'_> {
        Rounds {
            suite: "serve",
            samples,
        }
    }

    #[test]
    fn the_median_is_of_rounds_and_the_shortest_of_one() {
        let samples = samples();
        let rounds = rounds(&samples);
        let shortest = |round| rounds.least(round, ("a", "base-b1"), "decode_wall");
        assert_eq!(rounds.median(shortest), Some(3.0));
        assert_eq!(rounds.most(2, ("a", "base-b1"), "decode_wall"), Some(9.0));
    }

    #[test]
    fn what_was_not_measured_is_missing() {
        let samples = samples();
        let rounds = rounds(&samples);
        assert_eq!(rounds.least(0, ("c", "base-b1"), "decode_wall"), None);
        assert_eq!(rounds.least(0, ("a", "base-b8"), "decode_wall"), None);
    }
}
