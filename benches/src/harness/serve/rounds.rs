//! Numbers of a round, and the median of the rounds.

use super::super::{Sample, Samples};
use serde_json::Value;

/// The samples of the suite.
pub(super) struct Rounds<'a>(pub(super) &'a Samples);

impl<'a> Rounds<'a> {
    /// The name under which a group of the suite is kept.
    pub(super) fn group(name: &str) -> String {
        format!("serve-{name}")
    }

    /// The median over the rounds of what `number` finds in one.
    pub(super) fn median(&self, number: impl Fn(u32) -> Option<f64>) -> Option<f64> {
        let rounds = self.0.0.iter().map(|sample| sample.round).max()?;
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

    /// The fastest reading of memory in a round, beside whichever case: a slower one had not the whole of two cores.
    pub(super) fn read_gb_s(&self, round: u32) -> Option<f64> {
        let samples = self.0.0.iter().filter(|sample| sample.round == round);
        let speeds = samples.flat_map(|sample| numbers_of(&sample.line["read_gb_s"]));
        speeds.reduce(f64::max)
    }

    /// How much of the threads' time the case had a core, in all rounds: 1 on a machine of its own.
    pub(super) fn cpu_share(&self, at: (&str, &str), phase: &str) -> Option<f64> {
        let sum = |kind: &str| -> f64 { self.numbers(None, at, &format!("{phase}_{kind}")).sum() };
        let threads = self.numbers(None, at, "threads").next()?;
        let share = sum("cpu") / (threads * sum("wall"));
        share.is_finite().then_some(share)
    }

    /// The cosine of the logits that two groups printed.
    pub(super) fn logits(&self, one: &str, other: &str) -> Option<f64> {
        let values = |group: &str| -> Vec<f64> {
            let first = self.lines(Some(0), (group, "logits")).next();
            let values = first.map(|line| numbers_of(&line["values"]).collect());
            values.unwrap_or_default()
        };
        let (one, other) = (values(one), values(other));
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let cosine = dot(&one, &other) / (dot(&one, &one) * dot(&other, &other)).sqrt();
        cosine.is_finite().then_some(cosine)
    }

    fn numbers(
        &self,
        round: Option<u32>,
        at: (&str, &str),
        field: &str,
    ) -> impl Iterator<Item = f64> {
        let lines = self.lines(round, at);
        lines.flat_map(move |line| numbers_of(&line[field]).collect::<Vec<_>>())
    }

    /// The lines of a case; of all rounds where none is named.
    fn lines(
        &self,
        round: Option<u32>,
        (group, case): (&str, &str),
    ) -> impl Iterator<Item = &'a Value> {
        let (group, case) = (Self::group(group), case.to_owned());
        let samples: &'a [Sample] = &self.0.0;
        samples
            .iter()
            .filter(move |sample| sample.group == group && sample.line["case"] == *case)
            .filter(move |sample| round.is_none_or(|round| sample.round == round))
            .map(|sample| &sample.line)
    }
}

/// A number, or the numbers of a list.
fn numbers_of(value: &Value) -> impl Iterator<Item = f64> {
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
        let sample = |group: &str, round, line| Sample {
            who: "xgraft".to_owned(),
            group: Rounds::group(group),
            round,
            command: String::new(),
            line,
        };
        let line = |wall: [f64; 2]| {
            json!({
                "case": "base-b1", "threads": 2, "decode_wall": wall, "decode_cpu": [1.0, 1.0],
            })
        };
        Samples(vec![
            sample("a", 0, line([2.0, 1.0])),
            sample("a", 1, line([3.0, 4.0])),
            sample("a", 2, line([9.0, 8.0])),
            sample(
                "a",
                1,
                json!({"case": "base-b8", "read_gb_s": [20.0, 21.0]}),
            ),
            sample("b", 1, json!({"case": "base-b8", "read_gb_s": [19.0]})),
            sample("a", 0, json!({"case": "logits", "values": [1.0, 2.0]})),
            sample("b", 0, json!({"case": "logits", "values": [2.0, 4.0]})),
        ])
    }

    #[test]
    fn the_median_is_of_rounds_and_the_shortest_of_one() {
        let samples = samples();
        let rounds = Rounds(&samples);
        let shortest = |round| rounds.least(round, ("a", "base-b1"), "decode_wall");
        assert_eq!(rounds.median(shortest), Some(3.0));
        assert_eq!(rounds.most(2, ("a", "base-b1"), "decode_wall"), Some(9.0));
    }

    #[test]
    fn the_share_of_the_cpu_is_of_all_threads_and_rounds() {
        let samples = samples();
        let share = Rounds(&samples).cpu_share(("a", "base-b1"), "decode");
        assert_eq!(share, Some(6.0 / (2.0 * 27.0)));
    }

    #[test]
    fn the_fastest_reading_is_of_all_cases_of_one_round() {
        let samples = samples();
        let rounds = Rounds(&samples);
        assert_eq!(rounds.read_gb_s(1), Some(21.0));
        assert_eq!(rounds.read_gb_s(0), None);
    }

    #[test]
    fn equal_directions_have_a_cosine_of_one() {
        let samples = samples();
        let cosine = Rounds(&samples).logits("a", "b").expect("is there");
        assert!((cosine - 1.0).abs() < 1e-12, "{cosine}");
    }

    #[test]
    fn what_was_not_measured_is_missing() {
        let samples = samples();
        let rounds = Rounds(&samples);
        assert_eq!(rounds.least(0, ("c", "base-b1"), "decode_wall"), None);
        assert_eq!(rounds.cpu_share(("a", "base-b8"), "decode"), None);
        assert_eq!(rounds.logits("a", "c"), None);
    }
}
