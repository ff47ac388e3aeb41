//! The ways in which a conversion of FP8 or INT4 to a plain model goes wrong, each decoded wrongly on purpose.

use std::collections::BTreeMap;

use tempfile::TempDir;
use xgraft_autopsy::{Group, Report, TensorReport, Verdict};
use xgraft_block_scale::{BlockShape, QuantizedMatrix, Recipe, ScaleDtype};
use xgraft_fixtures::TINY;

use crate::support::{bridge, examine, lines, of};

const Q: &str = "model.layers.1.self_attn.q_proj.weight";

fn quantized([rows, cols]: [usize; 2], numbers: &[f32]) -> QuantizedMatrix {
    let recipe = Recipe::f32(BlockShape::B128, ScaleDtype::F32);
    QuantizedMatrix::quantize(numbers, (rows, cols), &recipe).unwrap()
}

/// One code on its way to a number.
struct Element<'a> {
    code: f32,
    row: usize,
    col: usize,
    /// The scales of the blocks of 128, row-major, and their number in a row.
    scales: &'a [f32],
    grid_cols: usize,
}

impl Element<'_> {
    fn scale(&self) -> f32 {
        self.scales[self.row / 128 * self.grid_cols + self.col / 128]
    }
}

/// Every linear weight quantized to FP8 with blocks of 128, and decoded as `decode` does.
fn fp8_bridge(decode: impl Fn(&Element<'_>) -> f32) -> TempDir {
    bridge(|_, [rows, cols], numbers| {
        let q = quantized([rows, cols], numbers);
        let element = |(at, &code): (usize, &u8)| Element {
            code: q.format.decode(code),
            row: at / cols,
            col: at % cols,
            scales: &q.scales,
            grid_cols: cols.div_ceil(128),
        };
        let codes = q.codes.iter().enumerate();
        codes.map(element).map(|e| decode(&e)).collect()
    })
}

/// INT4 in groups of 128 along a row, decoded as `offset` says.
fn int4(cols: usize, numbers: &[f32], decode: impl Fn(i32) -> i32) -> Vec<f32> {
    let mut out = Vec::with_capacity(numbers.len());
    for row in numbers.chunks(cols) {
        for group in row.chunks(128) {
            let amax = group.iter().fold(0f32, |m, x| m.max(x.abs()));
            let scale = amax / 7.0;
            out.extend(group.iter().map(|x| {
                let nibble = ((x / scale).round().clamp(-8.0, 7.0)) as i32 + 8;
                decode(nibble) as f32 * scale
            }));
        }
    }
    out
}

fn offset_binary(nibble: i32) -> i32 {
    nibble - 8
}

fn twos_complement(nibble: i32) -> i32 {
    if nibble >= 8 { nibble - 16 } else { nibble }
}

#[test]
fn case_four_a_right_bridge_is_healthy_with_and_without_a_reference() {
    let dir = fp8_bridge(|e| e.code * e.scale());
    for reference in [None, Some(TINY.base())] {
        let report = examine(dir.path(), reference.as_deref());
        assert!(report.healthy, "{}", lines(&report));
    }
    let report = examine(dir.path(), Some(&TINY.base()));
    let q = of(&report, Q).reference.clone().unwrap();
    assert!(q.relative_error.unwrap() < 0.03 && q.correlation.unwrap() > 0.999);
    assert!(q.snr_db.unwrap() > 30.0);
}

#[test]
fn case_one_codes_without_scales_explode() {
    let dir = fp8_bridge(|e| e.code);
    let report = examine(dir.path(), None);
    assert_eq!(
        of(&report, Q).verdict,
        Verdict::Exploded,
        "{}",
        lines(&report)
    );
    assert_eq!(report.roles[0].sick, 21);
    assert!(lines(&report).contains("RMS"));
}

#[test]
fn case_one_a_single_scale_for_the_tensor_is_mis_scaled_against_the_reference() {
    let dir = fp8_bridge(|e| e.code * e.scales[0]);
    let report = examine(dir.path(), Some(&TINY.base()));
    assert!(!report.healthy);
    let sick: Vec<_> = report
        .tensors
        .iter()
        .filter(|t| t.verdict != Verdict::Healthy)
        .collect();
    assert!(sick.len() >= 19, "{}", lines(&report));
    assert!(
        sick.iter().all(|t| t.verdict == Verdict::MisScaled),
        "{}",
        lines(&report)
    );
}

#[test]
fn case_two_blocks_of_64_are_mis_scaled_against_the_reference() {
    let dir = fp8_bridge(|e| {
        let at = (e.row / 64) * e.grid_cols + e.col / 64;
        e.code * e.scales[at.min(e.scales.len() - 1)]
    });
    let report = examine(dir.path(), Some(&TINY.base()));
    let sick = report
        .tensors
        .iter()
        .filter(|t| matches!(t.verdict, Verdict::MisScaled | Verdict::MisDecoded));
    assert!(sick.count() >= 19, "{}", lines(&report));
}

#[test]
fn case_three_division_by_the_scale_explodes_with_and_without_a_reference() {
    let dir = fp8_bridge(|e| e.code / e.scale());
    for reference in [None, Some(TINY.base())] {
        let report = examine(dir.path(), reference.as_deref());
        assert_eq!(
            of(&report, Q).verdict,
            Verdict::Exploded,
            "{}",
            lines(&report)
        );
        let finding = of(&report, Q).finding().unwrap();
        assert!(finding.hint.unwrap().contains("code × scale"));
    }
}

#[test]
fn int4_decoded_right_is_healthy_with_and_without_a_reference() {
    let dir = bridge(|_, [_, cols], numbers| int4(cols, numbers, offset_binary));
    for reference in [None, Some(TINY.base())] {
        let report = examine(dir.path(), reference.as_deref());
        assert!(report.healthy, "{}", lines(&report));
    }
}

#[test]
fn int4_decoded_as_twos_complement_is_mis_decoded_with_and_without_a_reference() {
    let dir = bridge(|_, [_, cols], numbers| int4(cols, numbers, twos_complement));
    let alone = examine(dir.path(), None);
    assert_eq!(alone.roles[0].sick, 21, "{}", lines(&alone));
    let q = of(&alone, Q);
    assert_eq!(q.verdict, Verdict::MisDecoded);
    assert_eq!(q.faults[0].limit, Some("kurtosis_min"));
    assert!(q.stats.as_ref().unwrap().kurtosis.unwrap() < 1.5);

    let beside = examine(dir.path(), Some(&TINY.base()));
    let q = of(&beside, Q);
    assert_eq!(q.verdict, Verdict::MisDecoded);
    assert_eq!(q.faults[0].limit, Some("correlation_min"));
    let reference = q.reference.as_ref().unwrap();
    assert!(
        (-0.75..-0.45).contains(&reference.correlation.unwrap()),
        "{reference:?}"
    );
    assert!(
        (2.5..4.0).contains(&reference.relative_error.unwrap()),
        "{reference:?}"
    );
}

#[test]
fn two_swapped_tensors_are_told_by_their_correlation() {
    let up = |n: &str| n.contains("layers.0.mlp.up_proj");
    let gate = |n: &str| n.contains("layers.0.mlp.gate_proj");
    let all = crate::support::base();
    let numbers =
        |which: &dyn Fn(&str) -> bool| all.iter().find(|(n, ..)| which(n)).unwrap().2.clone();
    let dir = bridge(|name, _, own| match name {
        n if up(n) => numbers(&gate),
        n if gate(n) => numbers(&up),
        _ => own.to_vec(),
    });
    let report = examine(dir.path(), Some(&TINY.base()));
    let sick: Vec<&str> = report
        .tensors
        .iter()
        .filter(|t| t.verdict == Verdict::MisDecoded)
        .map(|t| t.module.as_str())
        .collect();
    assert_eq!(
        sick,
        ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"]
    );
    assert!(lines(&report).contains("unrelated"), "{}", lines(&report));
}

/// The linear weights of a report.
fn linear(report: &Report) -> impl Iterator<Item = &TensorReport> {
    report.tensors.iter().filter(|t| t.role == Group::Linear)
}

/// How many linear weights have each verdict.
fn verdicts(report: &Report) -> String {
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for tensor in linear(report) {
        *counts.entry(tensor.verdict).or_default() += 1;
    }
    let counts = counts.iter().rev();
    let texts: Vec<String> = counts.map(|(v, n)| format!("{n} {}", v.name())).collect();
    texts.join(", ")
}

/// A line of the table in the documents: what is said of a bridge alone and beside the original, and by what.
fn row(name: &str, dir: &TempDir) -> String {
    let alone = examine(dir.path(), None);
    let beside = examine(dir.path(), Some(&TINY.base()));
    let compared = || linear(&beside).map(|t| t.reference.as_ref().unwrap());
    let range = |values: Vec<f64>, show: &dyn Fn(f64) -> String| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{} to {}", show(least), show(most))
    };
    let correlation = range(compared().filter_map(|c| c.correlation).collect(), &|x| {
        format!("{x:.2}")
    });
    let error = range(
        compared().filter_map(|c| c.relative_error).collect(),
        &|x| match x {
            x if x < 100.0 => format!("{:.1} %", 100.0 * x),
            x => format!("{x:.0} times"),
        },
    );
    let (alone, beside) = (verdicts(&alone), verdicts(&beside));
    format!("| {name} | {alone} | {beside} | {correlation} | {error} |")
}

#[test]
fn the_table_in_the_documents_is_what_is_measured() {
    let fourfold = |e: &Element<'_>| {
        let at = (e.row / 64) * e.grid_cols + e.col / 64;
        e.scales[at.min(e.scales.len() - 1)]
    };
    let rows = [
        row(
            "right: block 128, code × scale",
            &fp8_bridge(|e| e.code * e.scale()),
        ),
        row("no scale: the codes themselves", &fp8_bridge(|e| e.code)),
        row(
            "per tensor: the first block's scale for all",
            &fp8_bridge(|e| e.code * e.scales[0]),
        ),
        row(
            "block 64: the grid read as if blocks were half as large",
            &fp8_bridge(|e| e.code * fourfold(e)),
        ),
        row(
            "right block, code ÷ scale",
            &fp8_bridge(|e| e.code / e.scale()),
        ),
        row(
            "right: INT4 as offset binary",
            &bridge(|_, [_, cols], x| int4(cols, x, offset_binary)),
        ),
        row(
            "INT4 as two's complement",
            &bridge(|_, [_, cols], x| int4(cols, x, twos_complement)),
        ),
    ];
    let page = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/published-results.md"
    );
    let page = std::fs::read_to_string(page).unwrap();
    let missing: Vec<&String> = rows.iter().filter(|row| !page.contains(*row)).collect();
    assert!(
        missing.is_empty(),
        "not in docs/published-results.md:\n{}",
        rows.join("\n")
    );
}
