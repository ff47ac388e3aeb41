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
const MANY: &[u32] = &[2048, 4096, 8192];
const OURS: &str = "xgraft";

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
        ask.floor("m512", "512 tokens", &every, &[512], (1.75, 1.60)),
        ask.teraflops(&every),
    ]);
    for (metric, rival, tokens, must, aim) in [
        ("few_deepgemm", "deepgemm", FEW, 1.2, None),
        ("some_deepgemm", "deepgemm", SOME, 1.15, None),
        ("m512_deepgemm", "deepgemm", &[512][..], 1.0, None),
        ("many_deepgemm", "deepgemm", MANY, 0.97, Some(1.03)),
        ("few_cublaslt", "cublaslt-block-best", FEW, 1.8, None),
        (
            "m512_cublaslt",
            "cublaslt-block-best",
            &[512][..],
            1.1,
            None,
        ),
        ("many_cublaslt", "cublaslt-block-best", MANY, 1.15, None),
        ("few_bf16", "cublas-bf16", FEW, 1.7, None),
        ("many_bf16", "cublas-bf16", MANY, 1.6, None),
        ("many_triton", "triton-block", MANY, 2.5, None),
    ] {
        lines.push(ask.rival(metric, rival, (&every, tokens), (must, aim)));
    }
    lines.extend([
        ask.adapter(&every, 16),
        ask.adapter(&every, 64),
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
        let worst = ratios
            .iter()
            .try_fold(0.0, |worst: f64, ratio| Some(worst.max((*ratio)?)));
        Line {
            value: worst,
            from: "the worst, over the floor of bytes or arithmetic".to_owned(),
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
            from: "geometric mean of four layers".to_owned(),
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
        let tokens: Vec<_> = tokens.iter().map(u32::to_string).collect();
        let line = Line {
            value: mean(&ratios),
            from: "geometric mean of gate_up, down, qkv, o".to_owned(),
            ..Line::new(format!(
                "{rival}'s time over ours, {} tokens",
                tokens.join(", ")
            ))
        };
        let line = line.named(metric).must(Goal::AtLeast(must));
        match aim {
            Some(aim) => line.aim(Goal::AtLeast(aim)),
            None => line,
        }
    }

    /// What an adapter of a rank adds, at the worst.
    fn adapter(&self, layers: &[Layer], rank: u32) -> Line {
        let extra = self.of(layers, &[1, 16, 64, 128, 512, 4096], |layer, m| {
            let with = self.run.median(layer.0, m, "xgraft-lora", rank)?;
            Some(with / self.ours(layer, m)? - 1.0)
        });
        let worst = extra
            .iter()
            .try_fold(0.0, |worst: f64, extra| Some(worst.max((*extra)?)));
        let metric = if rank == 16 { "lora_r16" } else { "lora_r64" };
        Line {
            value: worst,
            show: percent,
            from: "the worst, given T".to_owned(),
            ..Line::new(format!(
                "an adapter of rank {rank} in the product, extra time"
            ))
        }
        .named(metric)
        .must(Goal::AtMost(0.04))
    }

    /// At a rank of 256, time over bytes.
    fn widest(&self, layers: &[Layer]) -> Line {
        let ratios = self.of(layers, &[1, 16, 64, 128], |layer, m| {
            let with = self.run.median(layer.0, m, "xgraft-lora", 256)?;
            let alone = floor::bytes((m, layer.1, layer.2));
            let more = 2.0 * 256.0 * f64::from(m + layer.1);
            Some((with / self.ours(layer, m)?) / (1.0 + more / alone))
        });
        let worst = ratios
            .iter()
            .try_fold(0.0, |worst: f64, ratio| Some(worst.max((*ratio)?)));
        Line {
            value: worst,
            from: "the worst: growth of time over growth of bytes".to_owned(),
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

    fn loads(&self) -> [Line; 2] {
        let of = |origin: &str, all: bool| {
            let loads = self.run.loads.iter();
            let loads = loads.filter(|load| {
                load.origin.as_deref() == Some(origin) && (load.kernel == "all") == all
            });
            loads
                .filter_map(|load| Some(1e-3 * load.ms?))
                .reduce(f64::max)
        };
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
        vec![
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
