//! What was asked for, and what came out.

use super::{
    floor::{self, Peaks},
    folder::{Check, Folder},
};
use crate::harness::{Goal, Line};
use xgraft_results::human::percent;

/// n and k of the linear layers that are judged.
const LARGE: [(&str, u32, u32); 2] = [("gate_up", 51_200, 5120), ("down", 5120, 25_600)];
const SMALL: [(&str, u32, u32); 2] = [("qkv", 10_240, 5120), ("o", 5120, 8192)];
const FEW: &[u32] = &[1, 8, 16];
const SOME: &[u32] = &[64, 128];
const MIDDLE: &[u32] = &[512];
const MANY: &[u32] = &[2048, 4096, 8192];
const UP_TO_64: &[u32] = &[1, 8, 16, 64];
const UP_TO_128: &[u32] = &[1, 8, 16, 64, 128];
const ABOVE_128: &[u32] = &[512, 2048, 4096, 8192];
const OURS: &str = "xgraft";
const FUSED: &str = "xgraft-lora";
const UNFUSED: &str = "xgraft-unfused-lora";
const DEEPGEMM: &str = "deepgemm";
const CUBLASLT: &str = "cublaslt-block-best";
const BF16: &str = "cublas-bf16";
const TRITON: &str = "triton-block";

pub(super) fn all(run: &Folder, peaks: Peaks) -> Vec<Line> {
    let ask = Ask { run, peaks };
    let every: Vec<_> = LARGE.into_iter().chain(SMALL).collect();
    let mut lines = ask.right();
    lines.extend([
        ask.floor(
            "few_large",
            "gate_up, down, up to 16 tokens",
            &LARGE,
            FEW,
            (1.15, 1.10),
        ),
        ask.floor(
            "few_small",
            "qkv, o, up to 16 tokens",
            &SMALL,
            FEW,
            (1.40, 1.25),
        ),
        ask.floor(
            "some_large",
            "gate_up, down, 64 and 128 tokens",
            &LARGE,
            SOME,
            (1.25, 1.15),
        ),
        ask.floor(
            "some_small",
            "qkv, o, 64 and 128 tokens",
            &SMALL,
            SOME,
            (1.50, 1.35),
        ),
        ask.floor("m512", "512 tokens", &every, MIDDLE, (1.75, 1.60)),
        ask.teraflops(&every),
    ]);
    for (metric, rival, layers, tokens, must, aim) in [
        ("few_large_deepgemm", DEEPGEMM, &LARGE[..], FEW, 1.2, None),
        ("few_large_cublaslt", CUBLASLT, &LARGE, FEW, 1.8, None),
        ("few_large_bf16", BF16, &LARGE, FEW, 1.7, None),
        ("few_small_deepgemm", DEEPGEMM, &SMALL, FEW, 1.25, None),
        ("few_small_cublaslt", CUBLASLT, &SMALL, FEW, 2.0, None),
        ("some_deepgemm", DEEPGEMM, &every, SOME, 1.15, None),
        ("m512_deepgemm", DEEPGEMM, &every, MIDDLE, 1.0, None),
        ("m512_cublaslt", CUBLASLT, &every, MIDDLE, 1.1, None),
        ("many_deepgemm", DEEPGEMM, &every, MANY, 0.97, Some(1.03)),
        ("many_cublaslt", CUBLASLT, &every, MANY, 1.15, None),
        ("many_bf16", BF16, &every, MANY, 1.6, None),
        ("many_triton", TRITON, &every, MANY, 2.5, None),
    ] {
        lines.push(ask.rival(metric, rival, (layers, tokens), (must, aim)));
    }
    lines.extend([
        ask.adapter("lora_r16_few", &every, 16, (UP_TO_128, 0.04)),
        ask.adapter("lora_r16_many", &every, 16, (ABOVE_128, 0.03)),
        ask.adapter("lora_r64_few", &every, 64, (UP_TO_128, 0.04)),
        ask.adapter("lora_r64_many", &every, 64, (ABOVE_128, 0.03)),
        ask.fused("lora_r16_unfused", &every, 16),
        ask.fused("lora_r64_unfused", &every, 64),
        ask.widest(&every),
    ]);
    lines.push(ask.step());
    lines.extend(ask.loads());
    lines
}

struct Ask<'a> {
    run: &'a Folder,
    peaks: Peaks,
}

type Layer = (&'static str, u32, u32);

fn tokens_of(tokens: &[u32]) -> String {
    let tokens: Vec<_> = tokens.iter().map(u32::to_string).collect();
    tokens.join(", ")
}

/// The largest, if every number is there.
fn worst(numbers: &[Option<f64>]) -> Option<f64> {
    let mut numbers = numbers.iter();
    numbers.try_fold(0.0, |worst: f64, number| Some(worst.max((*number)?)))
}

/// The geometric mean, if every number is there.
fn mean(numbers: &[Option<f64>]) -> Option<f64> {
    let sum = numbers
        .iter()
        .try_fold(0.0, |sum, number| Some(sum + (*number)?.ln()))?;
    (!numbers.is_empty()).then(|| (sum / numbers.len() as f64).exp())
}

impl Ask<'_> {
    fn of(
        &self,
        layers: &[Layer],
        tokens: &[u32],
        ask: impl Fn(Layer, u32) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let pairs = layers
            .iter()
            .flat_map(|layer| tokens.iter().map(move |m| (*layer, *m)));
        pairs.map(|(layer, m)| ask(layer, m)).collect()
    }

    /// Where a number comes from, and what it lacks: a rival that was not there is named.
    fn from(
        &self,
        what: &str,
        arms: &[(&str, u32)],
        (layers, tokens): (&[Layer], &[u32]),
    ) -> String {
        let mut from = what.to_owned();
        for (name, rank) in arms {
            let times = self.of(layers, tokens, |layer, m| {
                self.run.median(layer.0, m, name, *rank)
            });
            let lacking = times.iter().filter(|time| time.is_none()).count();
            if lacking > 0 {
                let of = times.len();
                from += &format!("; {name} was not measured in {lacking} of {of} cases");
            }
        }
        from
    }

    fn ours(&self, layer: Layer, m: u32) -> Option<f64> {
        self.run.median(layer.0, m, OURS, 0)
    }

    fn floor(
        &self,
        metric: &'static str,
        what: &str,
        layers: &[Layer],
        tokens: &[u32],
        (must, aim): (f64, f64),
    ) -> Line {
        let ratios = self.of(layers, tokens, |layer, m| {
            let floor = floor::microseconds(self.peaks, (m, layer.1, layer.2));
            Some(self.ours(layer, m)? / floor)
        });
        let from = "the worst, over the floor of bytes or arithmetic";
        Line {
            value: worst(&ratios),
            from: self.from(from, &[(OURS, 0)], (layers, tokens)),
            ..Line::new(format!("{what}: time over the floor"))
        }
        .named(metric)
        .must(Goal::AtMost(must))
        .aim(Goal::AtMost(aim))
    }

    fn teraflops(&self, layers: &[Layer]) -> Line {
        let rates = self.of(layers, MANY, |layer, m| {
            Some(1e-6 * floor::flops((m, layer.1, layer.2)) / self.ours(layer, m)?)
        });
        Line {
            value: mean(&rates),
            show: |value| format!("{value:.0} TFLOPS"),
            from: self.from(
                "geometric mean of four layers",
                &[(OURS, 0)],
                (layers, MANY),
            ),
            ..Line::new("2,048 tokens and more".to_owned())
        }
        .named("many_tflops")
        .must(Goal::AtLeast(1200.0))
        .aim(Goal::AtLeast(1365.0))
    }

    fn rival(
        &self,
        metric: &'static str,
        rival: &str,
        (layers, tokens): (&[Layer], &[u32]),
        (must, aim): (f64, Option<f64>),
    ) -> Line {
        let ratios = self.of(layers, tokens, |layer, m| {
            Some(self.run.median(layer.0, m, rival, 0)? / self.ours(layer, m)?)
        });
        let names: Vec<_> = layers.iter().map(|layer| layer.0).collect();
        let names = names.join(", ");
        let from = format!("geometric mean of {names}");
        let line = Line {
            value: mean(&ratios),
            from: self.from(&from, &[(rival, 0), (OURS, 0)], (layers, tokens)),
            ..Line::new(format!(
                "{rival}'s time over ours, {names}, {} tokens",
                tokens_of(tokens)
            ))
        };
        let line = line.named(metric).must(Goal::AtLeast(must));
        match aim {
            Some(aim) => line.aim(Goal::AtLeast(aim)),
            None => line,
        }
    }

    /// What an adapter of a rank adds, at the worst.
    fn adapter(
        &self,
        metric: &'static str,
        layers: &[Layer],
        rank: u32,
        (tokens, most): (&[u32], f64),
    ) -> Line {
        let extra = self.of(layers, tokens, |layer, m| {
            let with = self.run.median(layer.0, m, FUSED, rank)?;
            // What is measured may be less than nothing.
            Some((with / self.ours(layer, m)? - 1.0).max(0.0))
        });
        Line {
            value: worst(&extra),
            show: percent,
            from: self.from(
                "the worst, given T",
                &[(FUSED, rank), (OURS, 0)],
                (layers, tokens),
            ),
            ..Line::new(format!(
                "an adapter of rank {rank} in the product, extra time, {} tokens",
                tokens_of(tokens)
            ))
        }
        .named(metric)
        .must(Goal::AtMost(most))
    }

    /// What it saves to have the adapter in the product, and not in a kernel behind it.
    fn fused(&self, metric: &'static str, layers: &[Layer], rank: u32) -> Line {
        let ratios = self.of(layers, UP_TO_64, |layer, m| {
            let apart = self.run.median(layer.0, m, UNFUSED, rank)?;
            Some(apart / self.run.median(layer.0, m, FUSED, rank)?)
        });
        Line {
            value: mean(&ratios),
            from: self.from(
                "geometric mean of gate_up, down, qkv, o",
                &[(UNFUSED, rank), (FUSED, rank)],
                (layers, UP_TO_64),
            ),
            ..Line::new(format!(
                "an adapter of rank {rank}: base and expand over the fused product, {} tokens",
                tokens_of(UP_TO_64)
            ))
        }
        .named(metric)
        .must(Goal::AtLeast(1.3))
    }

    /// At a rank of 256, time over bytes.
    fn widest(&self, layers: &[Layer]) -> Line {
        let ratios = self.of(layers, UP_TO_128, |layer, m| {
            let with = self.run.median(layer.0, m, FUSED, 256)?;
            let alone = floor::bytes((m, layer.1, layer.2));
            let more = 2.0 * 256.0 * f64::from(m + layer.1);
            Some((with / self.ours(layer, m)?) / (1.0 + more / alone))
        });
        let from = "the worst: growth of time over growth of bytes";
        Line {
            value: worst(&ratios),
            from: self.from(from, &[(FUSED, 256), (OURS, 0)], (layers, UP_TO_128)),
            ..Line::new("an adapter of rank 256 in the product".to_owned())
        }
        .named("lora_r256")
        .must(Goal::AtMost(1.0))
    }

    /// One token through all linear layers. The driver gives microseconds of a whole step.
    fn step(&self) -> Line {
        Line {
            value: self.run.median("decode-step", 1, OURS, 0),
            show: |us| format!("{:.2} ms", 1e-3 * us),
            from: "64 layers in one graph".to_owned(),
            ..Line::new("all linear layers of Qwen3-32B, one token".to_owned())
        }
        .named("decode_step")
        .must(Goal::AtMost(11_200.0))
        .aim(Goal::AtMost(10_600.0))
    }

    fn loads(&self) -> [Line; 4] {
        let of = |origin: &str, all: bool| {
            let loads = self.run.loads.iter();
            let loads = loads.filter(|load| {
                load.origin.as_deref() == Some(origin) && (load.kernel == "all") == all
            });
            loads
                .filter_map(|load| Some(1e-3 * load.ms?))
                .reduce(f64::max)
        };
        let tiles = self.run.loads.iter().filter(|load| {
            let tiled = ["prefill", "decode"].iter();
            load.origin.as_deref() == Some("compiled")
                && load.ms.is_some()
                && tiled.into_iter().any(|kind| load.kernel.starts_with(kind))
        });
        let tiles = Some(tiles.count()).filter(|count| *count > 0);
        let line = |what: &str, from: &str, value| Line {
            value,
            show: |seconds| format!("{seconds:.2} s"),
            from: from.to_owned(),
            ..Line::new(what.to_owned())
        };
        [
            line(
                "first use of a kernel, compiled",
                "the slowest",
                of("compiled", false),
            )
            .named("first_use")
            .must(Goal::AtMost(1.5)),
            Line {
                show: |count| format!("{count:.0}"),
                ..line(
                    "configurations of prefill and decode",
                    "that were compiled",
                    tiles.map(|count| count as f64),
                )
            }
            .named("configurations")
            .must(Goal::AtMost(20.0)),
            Line {
                show: |seconds| format!("{:.1} ms", 1e3 * seconds),
                ..line("a kernel from the cache", "the slowest", of("cache", false))
            }
            .named("load_one")
            .must(Goal::AtMost(0.005)),
            line("all kernels from the cache", "together", of("cache", true))
                .named("load_all")
                .must(Goal::AtMost(1.0)),
        ]
    }

    /// Whether they are right at all, and whether to the bit. Unknown as long as cases are left out.
    fn right(&self) -> Vec<Line> {
        let checks: Vec<_> = self
            .run
            .checks
            .iter()
            .filter(|check| check.ok.is_some())
            .collect();
        let all = !checks.is_empty()
            && !self
                .run
                .left_out
                .iter()
                .any(|what| what.starts_with("check"));
        let numbers: u64 = checks.iter().filter_map(|check| check.compared).sum();
        let line = |what: &str, metric, is_wrong: &dyn Fn(&Check) -> bool| {
            let wrong: Vec<_> = checks.iter().filter(|check| is_wrong(check)).collect();
            let first = wrong
                .first()
                .map(|check| format!("; the first is {}", check.case));
            Line {
                value: all.then_some(wrong.len() as f64),
                show: |value| format!("{value:.0}"),
                from: format!(
                    "{} cases, {numbers} numbers{}",
                    checks.len(),
                    first.unwrap_or_default()
                ),
                ..Line::new(what.to_owned())
            }
            .named(metric)
            .must(Goal::AtMost(0.0))
        };
        let sum = |of: fn(&Check) -> u64| checks.iter().copied().map(of).sum::<u64>();
        let unsteady = Line {
            value: all.then_some(sum(|check| check.unsteady) as f64),
            show: |value| format!("{value:.0}"),
            from: format!("{} repeats", sum(|check| check.repeats)),
            ..Line::new("repeats that gave other bits".to_owned())
        };
        vec![
            unsteady.named("check_unsteady").must(Goal::AtMost(0.0)),
            line(
                "cases far from the exact result, or unsteady",
                "check_unusable",
                &|check| check.usable.or(check.ok) == Some(false),
            ),
            line(
                "cases that are not the emulator's to the bit",
                "check_bits",
                &|check| check.ok == Some(false),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Table;
    use serde_json::json;

    fn run(samples: Vec<serde_json::Value>, loads: serde_json::Value) -> Folder {
        let samples = samples.into_iter().map(serde_json::from_value);
        Folder {
            path: "a".into(),
            machine: json!({}),
            samples: samples.collect::<Result<_, _>>().expect("samples"),
            checks: Vec::new(),
            loads: serde_json::from_value(loads).expect("loads"),
            tuned: [].into(),
            sanitized: Vec::new(),
            left_out: Vec::new(),
            mock: true,
        }
    }

    /// Samples of every judged layer, of arms that take so many times the floor.
    fn samples(arms: &[(&str, u32, f64)]) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        for (layer, n, k) in LARGE.into_iter().chain(SMALL) {
            for m in [FEW, SOME, MIDDLE, MANY].concat() {
                for (name, rank, factor) in arms {
                    let us = factor * floor::microseconds(Peaks::of(&json!({})), (m, n, k));
                    all.push(json!({
                        "layer": layer, "m": m, "n": n, "k": k, "rank": rank, "impl": name, "samples_us": [us],
                    }));
                }
            }
        }
        all
    }

    fn lines(samples: Vec<serde_json::Value>, loads: serde_json::Value) -> Vec<Line> {
        all(&run(samples, loads), Peaks::of(&json!({})))
    }

    fn line<'a>(lines: &'a [Line], metric: &str) -> &'a Line {
        let found = lines.iter().find(|line| line.metric == metric);
        found.unwrap_or_else(|| panic!("no line {metric}"))
    }

    fn missed(line: &Line) -> bool {
        assert!(line.value.is_some(), "{}", line.metric);
        Table(vec![line.clone()]).missed() == 1
    }

    #[test]
    fn nothing_passes_of_which_nothing_is_known() {
        let lines = lines(Vec::new(), json!([]));
        for line in &lines {
            assert_eq!(line.value, None, "{}", line.metric);
        }
        let count = lines.len();
        let text = Table(lines).markdown();
        // Once as the number and once as the verdict, of each.
        assert_eq!(text.matches("| not measured ").count(), 2 * count);
        assert!(
            text.contains("deepgemm was not measured in 6 of 6 cases"),
            "{text}"
        );
    }

    #[test]
    fn a_rival_is_held_to_what_is_asked_of_each_size_of_weight() {
        let times = samples(&[(OURS, 0, 1.0), (DEEPGEMM, 0, 1.22), (CUBLASLT, 0, 1.9)]);
        let lines = lines(times, json!([]));
        for (metric, wrong) in [
            ("few_large_deepgemm", false),
            ("few_small_deepgemm", true),
            ("few_large_cublaslt", false),
            ("few_small_cublaslt", true),
            ("some_deepgemm", false),
        ] {
            assert_eq!(missed(line(&lines, metric)), wrong, "{metric}");
        }
        assert_eq!(line(&lines, "many_triton").value, None);
    }

    #[test]
    fn a_time_of_what_failed_is_none() {
        let mut times = samples(&[(OURS, 0, 1.0), (DEEPGEMM, 0, 2.0)]);
        for sample in &mut times {
            if sample["impl"] == DEEPGEMM && sample["m"] == 64 {
                sample["error"] = json!("wrong: rel_rms 0.3");
            }
        }
        let lines = lines(times, json!([]));
        let some = line(&lines, "some_deepgemm");
        assert_eq!(some.value, None);
        assert!(some.from.ends_with("in 4 of 8 cases"), "{}", some.from);
        assert!(!missed(line(&lines, "few_small_deepgemm")));
    }

    #[test]
    fn an_adapter_may_cost_more_at_few_tokens_and_must_pay_where_it_is_fused() {
        let arms = [
            (OURS, 0, 1.0),
            (FUSED, 16, 1.0),
            (FUSED, 64, 1.035),
            (UNFUSED, 16, 1.2),
            (UNFUSED, 64, 1.4),
        ];
        let lines = lines(samples(&arms), json!([]));
        for (metric, wrong) in [
            ("lora_r16_few", false),
            ("lora_r16_many", false),
            ("lora_r64_few", false),
            ("lora_r64_many", true),
            ("lora_r16_unfused", true),
            ("lora_r64_unfused", false),
        ] {
            assert_eq!(missed(line(&lines, metric)), wrong, "{metric}");
        }
    }

    #[test]
    fn loads_are_judged_one_by_one_and_together() {
        let load =
            |kernel: &str, origin: &str, ms| json!({"kernel": kernel, "origin": origin, "ms": ms});
        let loads = json!([
            load("prefill-a", "compiled", 900.0),
            load("plain", "compiled", 1600.0),
            load("all", "compiled", 2500.0),
            load("prefill-a", "cache", 4.0),
            load("plain", "cache", 6.0),
            load("all", "cache", 10.0),
        ]);
        let lines = lines(Vec::new(), loads);
        assert_eq!(line(&lines, "first_use").value, Some(1.6));
        assert_eq!(line(&lines, "configurations").value, Some(1.0));
        assert_eq!(line(&lines, "load_one").value, Some(0.006));
        assert!(missed(line(&lines, "load_one")));
        assert!(!missed(line(&lines, "load_all")));
    }
}
