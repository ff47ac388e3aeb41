//! What only this suite asks of its rounds.

use super::super::rounds::{Rounds, numbers_of};

impl Rounds<'_> {
    /// The fastest reading of memory in a round, beside whichever case: a slower one had not the whole of two cores.
    pub(super) fn read_gb_s(&self, round: u32) -> Option<f64> {
        let samples = self.samples.0.iter().filter(|sample| sample.round == round);
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
}

#[cfg(test)]
mod tests {
    use super::super::super::{Sample, Samples};
    use super::*;
    use serde_json::json;

    fn samples() -> Samples {
        let sample = |group: &str, round, line| Sample {
            who: "xgraft".to_owned(),
            group: format!("serve-{group}"),
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

    fn rounds(samples: &Samples) -> Rounds<'_> {
        Rounds {
            suite: "serve",
            samples,
        }
    }

    #[test]
    fn the_share_of_the_cpu_is_of_all_threads_and_rounds() {
        let samples = samples();
        let share = rounds(&samples).cpu_share(("a", "base-b1"), "decode");
        assert_eq!(share, Some(6.0 / (2.0 * 27.0)));
    }

    #[test]
    fn the_fastest_reading_is_of_all_cases_of_one_round() {
        let samples = samples();
        let rounds = rounds(&samples);
        assert_eq!(rounds.read_gb_s(1), Some(21.0));
        assert_eq!(rounds.read_gb_s(0), None);
    }

    #[test]
    fn equal_directions_have_a_cosine_of_one() {
        let samples = samples();
        let cosine = rounds(&samples).logits("a", "b").expect("is there");
        assert!((cosine - 1.0).abs() < 1e-12, "{cosine}");
    }

    #[test]
    fn what_was_not_measured_is_missing() {
        let samples = samples();
        let rounds = rounds(&samples);
        assert_eq!(rounds.cpu_share(("a", "base-b8"), "decode"), None);
        assert_eq!(rounds.logits("a", "c"), None);
    }
}
