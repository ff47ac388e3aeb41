//! `xgraft autopsy` as a whole process against NumPy's and torch's pass over the same numbers, and against a reading of the
//! same bytes that does nothing else.

use super::{
    Goal, Line, Programs, Samples, Table, Whose,
    pairs::layer_of_qwen,
    table::{seconds, times},
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use xgraft_results::human::percent;

const GROUP: &str = "autopsy";

/// The statistics that are compared, and by how much of the standard deviation, or of themselves, they may differ.
const CHECKED: [(&str, f64); 5] = [
    ("mean", 1e-5),
    ("std", 1e-5),
    ("min", 0.0),
    ("max", 0.0),
    ("kurtosis", 1e-3),
];

/// Measures, and adds lines to the table.
///
/// # Errors
/// A program fails, or two of them do not agree in what they found.
pub fn run(programs: &mut Programs, table: &mut Table) -> Result<()> {
    let checkpoint = layer_of_qwen(programs)?.join("base");
    let file = checkpoint.join("model.safetensors");
    let (directory, file) = (checkpoint.display().to_string(), file.display().to_string());
    for round in 0..programs.rounds() {
        for threads in ["1", "2"] {
            let probe = ["--file", &file, "--threads", threads, "--reps", "3"];
            programs.ours(&probe_of(threads), round, "read_bytes", &probe)?;
            let ours = ["autopsy", &directory, "--threads", threads, "--json"];
            programs.xgraft(GROUP, round, &case_of(threads), &ours, statistics)?;
        }
        for library in ["numpy", "torch"] {
            let theirs = [library, "--file", &file];
            programs.theirs(Whose::Peers, GROUP, round, "weights/statistics.py", &theirs)?;
        }
    }
    check(&programs.samples, Path::new(&file))?;
    lines(&programs.samples, table);
    Ok(())
}

fn case_of(threads: &str) -> String {
    format!("autopsy-{threads}-threads")
}

fn probe_of(threads: &str) -> String {
    format!("read-{threads}-threads")
}

/// What `xgraft autopsy --json` found, by tensor.
fn statistics(stdout: &str) -> Result<Value> {
    let report: Value = serde_json::from_str(stdout)?;
    let tensors = report["tensors"].as_array().context("no tensors")?;
    let found: serde_json::Map<String, Value> = tensors
        .iter()
        .map(|t| {
            (
                t["tensor"].as_str().unwrap_or_default().to_owned(),
                t["stats"].clone(),
            )
        })
        .collect();
    Ok(json!({"bytes": report["bytes"], "statistics": found}))
}

/// Every pass found the same numbers.
fn check(samples: &Samples, file: &Path) -> Result<()> {
    let cases = [case_of("1"), case_of("2"), "numpy".into(), "torch".into()];
    let mut all = cases
        .iter()
        .flat_map(|case| samples.of(GROUP, case))
        .map(|line| &line["statistics"]);
    let ours = all.next().context("nothing was measured")?;
    for theirs in all {
        for (tensor, mine) in ours.as_object().context("no statistics")? {
            if let Some(name) = difference(mine, &theirs[tensor]) {
                bail!(
                    "{name} of {tensor} in {}: {} and {}",
                    file.display(),
                    mine[name],
                    theirs[tensor][name]
                );
            }
        }
    }
    Ok(())
}

/// The first statistic in which two passes differ.
fn difference(mine: &Value, theirs: &Value) -> Option<&'static str> {
    let std = mine["std"].as_f64().unwrap_or(0.0);
    let counts = ["count", "nan", "infinite"];
    let count = counts.into_iter().find(|name| mine[name] != theirs[name]);
    let zeros = (mine["zero_share"] != theirs["zero_share"]).then_some("zero_share");
    let other = CHECKED.into_iter().find(|(name, tolerance)| {
        let (Some(a), Some(b)) = (mine[name].as_f64(), theirs[name].as_f64()) else {
            // Of numbers that are all the same nothing is said of the kurtosis.
            return *name != "kurtosis";
        };
        let unit = if *name == "kurtosis" {
            a
        } else {
            std.max(1e-6 * a.abs())
        };
        (a - b).abs() > tolerance * unit
    });
    count.or(zeros).or(other.map(|(name, _)| name))
}

fn lines(samples: &Samples, table: &mut Table) {
    table.0.extend([
        over(samples, "autopsy_vs_numpy", "numpy", "NumPy"),
        over(samples, "autopsy_vs_torch", "torch", "torch"),
        of_read(samples, "autopsy_vs_read", "1", "cpu_s", Some(0.6)),
        of_read(samples, "autopsy_vs_read_two_threads", "2", "wall_s", None),
    ]);
}

/// Their CPU time of the pass alone over ours of the whole process.
fn over(samples: &Samples, metric: &'static str, case: &str, name: &str) -> Line {
    let ours = samples.smallest(GROUP, &case_of("1"), "cpu_s");
    let theirs = samples.smallest(GROUP, case, "cpu_s");
    Line {
        metric,
        what: format!("autopsy of one Qwen3-32B layer, one thread: over {name}"),
        from: seconds(ours, theirs),
        value: ours.zip(theirs).map(|(mine, other)| other / mine),
        show: times,
        must: Some(Goal::AtLeast(5.0)),
        aim: None,
    }
}

/// The time of reading the bytes, the faster way, over ours of the whole process.
fn of_read(
    samples: &Samples,
    metric: &'static str,
    threads: &str,
    field: &str,
    must: Option<f64>,
) -> Line {
    let ours = samples.smallest(GROUP, &case_of(threads), field);
    let group = probe_of(threads);
    let read = ["read", "map"]
        .into_iter()
        .filter_map(|case| samples.smallest(&group, case, field))
        .reduce(f64::min);
    let from = seconds(ours, read);
    Line {
        metric,
        what: format!(
            "autopsy of one Qwen3-32B layer, {threads} thread(s): share of the speed of reading its bytes"
        ),
        from: match field {
            "wall_s" => from.replace("CPU s", "s of wall time"),
            _ => from,
        },
        value: ours.zip(read).map(|(mine, read)| read / mine),
        show: percent,
        must: must.map(Goal::AtLeast),
        aim: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named() {
        let mine = json!({"count": 4, "nan": 0, "infinite": 0, "zero_share": 0.0, "mean": 0.0, "std": 1.0, "min": -1.0,
            "max": 1.0, "kurtosis": 3.0});
        let with = |name: &str, value: Value| {
            let mut theirs = mine.clone();
            theirs[name] = value;
            theirs
        };
        assert_eq!(difference(&mine, &mine), None);
        assert_eq!(difference(&mine, &with("nan", json!(1))), Some("nan"));
        assert_eq!(difference(&mine, &with("mean", json!(1e-6))), None);
        assert_eq!(difference(&mine, &with("mean", json!(1e-4))), Some("mean"));
        assert_eq!(difference(&mine, &with("min", Value::Null)), Some("min"));
    }
}
