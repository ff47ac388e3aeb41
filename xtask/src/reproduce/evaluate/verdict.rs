//! What was measured beside what theory and the published table say, in plain sentences.

use crate::{reproduce::steps::Step, workspace};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fmt::Write as _, fs, path::Path};

/// Shares of the baseline's 204 right answers of 433 that the published arms kept (micro; FP8, rank 256).
const PUBLISHED: [(&str, f64); 3] = [
    ("A", 200.0 / 204.0),
    ("B", 136.0 / 204.0),
    ("C", 184.0 / 204.0),
];

/// The format that the published arms were served in.
const PUBLISHED_FORMAT: &str = "fp8-block";

/// A and B of one format and rank.
struct Cell {
    scheme: String,
    rank: u32,
    /// ‖N‖/‖ΔW‖.
    noise: f64,
    /// Nats a token of A, B and C.
    kl: [Option<f64>; 3],
    /// KL of A less that of B, with the ends of its interval.
    further: [f64; 3],
    /// What A, B and C keep of the fine-tune's right answers, with the ends of intervals.
    kept: [Option<[f64; 3]>; 3],
}

/// The lines for the counts of one pair of models; empty where nothing is known of distances.
pub(super) fn of(step: &Step) -> Result<String> {
    let out = workspace::root().join(&step.out);
    let file = out.join("report.json");
    let report: Value = serde_json::from_slice(&fs::read(&file)?)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let pair = step.name.rsplit_once('.').map_or("", |(pair, _)| pair);
    let folder = out.parent().unwrap_or(&out);
    let noise = |arm: &str| match pair {
        "" => noise_ratio(&folder.join(arm)),
        _ => noise_ratio(&folder.join(format!("{pair}.{arm}"))),
    };
    let mut cells = cells(&report, &noise);
    cells.sort_by(|a, b| a.noise.total_cmp(&b.noise).then(a.rank.cmp(&b.rank)));
    if cells.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("{}{}", table(&cells), sentences(&cells)))
}

fn cells(report: &Value, noise: &dyn Fn(&str) -> Option<f64>) -> Vec<Cell> {
    let pairs = report["pairs"].as_array().into_iter().flatten();
    let cell = |pair: &Value| {
        let (a, b) = (pair["arm"].as_str()?, pair["reference"].as_str()?);
        let rest = a
            .strip_prefix("A-")
            .filter(|rest| b.strip_prefix("B-") == Some(rest))?;
        let (scheme, rank) = rest.rsplit_once("-r")?;
        let c = format!("C-{scheme}");
        let arms = [a, b, c.as_str()];
        Some(Cell {
            scheme: scheme.to_owned(),
            rank: rank.parse().ok()?,
            noise: noise(a)?,
            kl: arms.map(|arm| named(&report["arms"], arm)?["divergence"]["value"].as_f64()),
            further: interval(&pair["divergence"])?,
            kept: arms.map(|arm| interval(&named(&report["comparisons"], arm)?["retention_micro"])),
        })
    };
    pairs.filter_map(cell).collect()
}

fn named<'v>(list: &'v Value, arm: &str) -> Option<&'v Value> {
    list.as_array()?.iter().find(|entry| entry["arm"] == arm)
}

fn interval(value: &Value) -> Option<[f64; 3]> {
    let part = |name: &str| value[name].as_f64();
    Some([part("value")?, part("lo")?, part("hi")?])
}

/// The size of the noise beside that of the fine-tune, as the check of an arm measured it.
fn noise_ratio(arm: &Path) -> Option<f64> {
    let rows = fs::read_to_string(arm.join("rows.jsonl")).ok()?;
    let rows = rows
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut rows = rows.filter(|row| row["metric"] == "total_noise_ratio");
    rows.next()?["value"].as_f64()
}

fn table(cells: &[Cell]) -> String {
    let mut text = format!(
        "{:<10} {:>8} {:>5}   {:^30}   {:^32}   {}\n",
        "format",
        "‖N‖/‖ΔW‖",
        "rank",
        "kept of the right answers, %",
        "KL from the fine-tune, 1e-3 nats",
        "nearer"
    );
    let _ = writeln!(
        text,
        "{:<10} {:>8} {:>5}   {:>9} {:>9} {:>9}    {:>9} {:>9} {:>9}",
        "", "", "", "A", "B", "C", "A", "B", "C"
    );
    for cell in cells {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let kept = |kept: Option<[f64; 3]>| kept.map(|[value, ..]| format!("{:.1}", 100.0 * value));
        let [a, b, c] = cell.kept.map(|of| shown(kept(of)));
        let kl = cell
            .kl
            .map(|kl| shown(kl.map(|kl| format!("{:.3}", 1e3 * kl))));
        let _ = writeln!(
            text,
            "{:<10} {:>8.3} {:>5}   {a:>9} {b:>9} {c:>9}    {:>9} {:>9} {:>9}    {}",
            cell.scheme,
            cell.noise,
            cell.rank,
            kl[0],
            kl[1],
            kl[2],
            nearer(cell)
        );
    }
    text
}

/// Which of A and B is nearer to the fine-tune, where the interval of their difference says so.
fn nearer(cell: &Cell) -> &'static str {
    match cell.further {
        [_, _, hi] if hi < 0.0 => "A",
        [_, lo, _] if lo > 0.0 => "B",
        _ => "–",
    }
}

fn sentences(cells: &[Cell]) -> String {
    let count = |is_large: bool, who: &str| {
        let cells = cells.iter().filter(|cell| (cell.noise > 1.0) == is_large);
        (
            cells.clone().filter(|cell| nearer(cell) == who).count(),
            cells.count(),
        )
    };
    let ((large, of_large), (small, of_small)) = (count(true, "A"), count(false, "A"));
    let mut text = format!(
        "theory: B spends its rank on the noise once that outgrows the fine-tune, and A never does. Where it is larger, A is nearer in \
         {large} of {of_large} cells; where it is smaller, in {small} of {of_small}.\n"
    );
    let at = cells.iter().filter(|cell| cell.scheme == PUBLISHED_FORMAT);
    let Some(cell) = at.max_by_key(|cell| cell.rank) else {
        return text;
    };
    for ((method, published), kept) in PUBLISHED.into_iter().zip(cell.kept) {
        let Some([value, lo, hi]) = kept else {
            continue;
        };
        let agrees = match (lo..=hi).contains(&published) {
            true => "agrees with",
            false if value > published => "is more than",
            false => "is less than",
        };
        let _ = writeln!(
            text,
            "published: {method} kept {:.1} % on FP8; here {:.1} % [{:.1}, {:.1}], which {agrees} that",
            100.0 * published,
            100.0 * value,
            100.0 * lo,
            100.0 * hi
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Two formats at rank 32; on the second the noise is `noise` times the fine-tune, and A nearer.
    fn two_cells(noise: f64) -> Vec<Cell> {
        let pair = |scheme: &str, lo: f64, hi: f64| {
            let divergence = json!({"value": (lo + hi) / 2.0, "lo": lo, "hi": hi});
            json!({"arm": format!("A-{scheme}-r32"), "reference": format!("B-{scheme}-r32"), "divergence": divergence})
        };
        let kept = |arm: &str, value: f64| {
            let retention = json!({"value": value, "lo": value - 0.02, "hi": value + 0.02});
            json!({"arm": arm, "retention_micro": retention})
        };
        let report = json!({
            "arms": [{"arm": "A-int4-r32", "divergence": {"value": 0.001}}],
            "pairs": [pair("fp8-block", -0.1, 0.1), pair("int4", -0.3, -0.1),
                {"arm": "A-int4-r32", "reference": "C-int4", "divergence": {"value": 0.0, "lo": 0.0, "hi": 0.0}}],
            "comparisons": [kept("A-fp8-block-r32", 0.97), kept("B-fp8-block-r32", 0.9)],
        });
        cells(&report, &|arm| {
            Some(if arm.contains("int4") { noise } else { 0.5 })
        })
    }

    #[test]
    fn only_a_beside_b_is_a_cell_and_only_an_interval_without_zero_decides() {
        let cells = two_cells(2.9);
        let seen: Vec<_> = cells
            .iter()
            .map(|c| (c.scheme.as_str(), c.rank, nearer(c)))
            .collect();
        assert_eq!(seen, [("fp8-block", 32, "–"), ("int4", 32, "A")]);
        assert_eq!(cells[1].kl, [Some(0.001), None, None]);
    }

    #[test]
    fn cells_are_counted_by_the_noise_and_the_published_shares_held_against_intervals() {
        let text = sentences(&two_cells(2.9));
        assert!(
            text.contains("A is nearer in 1 of 1 cells; where it is smaller, in 0 of 1"),
            "{text}"
        );
        let text = sentences(&two_cells(0.9));
        assert!(
            text.contains("in 0 of 0 cells; where it is smaller, in 1 of 2"),
            "{text}"
        );
        assert!(
            text.contains("A kept 98.0 % on FP8; here 97.0 % [95.0, 99.0], which agrees with that"),
            "{text}"
        );
        assert!(
            text.contains(
                "B kept 66.7 % on FP8; here 90.0 % [88.0, 92.0], which is more than that"
            ),
            "{text}"
        );
        assert!(!text.contains("C kept"), "nobody measured it: {text}");
    }
}
