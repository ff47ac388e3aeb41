//! The truncated SVD against torch's, and `xgraft extract` as a whole process against mergekit.

use super::{
    Goal, Line, Programs, Samples, Show, Table, Whose,
    pairs::layer_of_qwen,
    table::{mib, minutes, seconds, times},
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use xgraft_results::human::percent;

const RANK: &str = "256";
/// Layers of the model that one layer is extrapolated to.
const LAYERS: f64 = 64.0;

/// Measures, and adds lines to the table.
///
/// # Errors
/// A program fails.
pub fn run(programs: &mut Programs, table: &mut Table) -> Result<()> {
    let sizes = if programs.quick {
        [(640, 640), (1280, 640)]
    } else {
        [(5120, 5120), (25600, 5120)]
    };
    for (rows, columns) in sizes {
        matrix(programs, rows, columns)?;
        matrix_lines(programs, table, rows, columns);
    }
    tiny_pair(programs)?;
    tiny_pair_lines(programs, table);
    layer(programs)?;
    layer_lines(programs, table);
    Ok(())
}

fn group_of(rows: usize, columns: usize) -> String {
    format!("svd-{rows}x{columns}")
}

/// What torch's randomized SVD needs to come as near to the optimum as ours: a wider basis and one more power iteration.
const EQUAL_QUALITY: [&str; 4] = ["--width", "384", "--power", "3"];

/// Our case.
const OURS: &str = "truncated_svd";

/// Their samples of a group.
fn peers_of(group: &str) -> String {
    format!("{group}-peers")
}

/// Their samples at equal quality.
fn equal_of(group: &str) -> String {
    format!("{group}-equal")
}

/// One matrix, one thread: our factorization, torch's two, and the exact optimum.
fn matrix(programs: &mut Programs, rows: usize, columns: usize) -> Result<()> {
    let group = group_of(rows, columns);
    let (rows, columns) = (rows.to_string(), columns.to_string());
    let file = programs
        .scratch
        .join(format!("matrix-{rows}x{columns}.safetensors"));
    if let Some(mut make) = programs.script(Whose::Peers, "extract/make_data.py") {
        make.arg("matrix").arg(&file).args([&rows, &columns]);
        programs.make(&file, &mut make)?;
    }
    let data = file.display().to_string();
    let peers = "extract/torch_cases.py";
    for round in 0..programs.rounds() {
        programs.ours(
            &group,
            round,
            "extract_kernels",
            &ours(&rows, &columns, &data, programs.python.is_some(), round),
        )?;
        let theirs = |case| {
            [
                "--matrix",
                data.as_str(),
                "--rank",
                RANK,
                "--threads",
                "1",
                "--repeats",
                "1",
                case,
            ]
        };
        programs.theirs(
            Whose::Peers,
            &peers_of(&group),
            round,
            peers,
            &theirs("svd_lowrank"),
        )?;
        let equal = [EQUAL_QUALITY.as_slice(), &theirs("svd_lowrank")].concat();
        programs.theirs(Whose::Peers, &equal_of(&group), round, peers, &equal)?;
        if round == 0 {
            // Each takes a minute or more, and no ratio needs them twice.
            programs.theirs(
                Whose::Peers,
                &peers_of(&group),
                round,
                peers,
                &theirs("svd"),
            )?;
            programs.theirs(
                Whose::Peers,
                &peers_of(&group),
                round,
                peers,
                &theirs("optimum"),
            )?;
        }
    }
    Ok(())
}

/// Our call; the first round computes the exact optimum too.
fn ours<'a>(
    rows: &'a str,
    columns: &'a str,
    data: &'a str,
    has_data: bool,
    round: u32,
) -> Vec<&'a str> {
    let mut ours = vec![
        "svd",
        "--rows",
        rows,
        "--cols",
        columns,
        "--rank",
        RANK,
        "--threads",
        "1",
        "--reps",
        "2",
    ];
    if has_data {
        ours.extend(["--matrix", data]);
    }
    if round == 0 {
        ours.push("--exact");
    }
    ours
}

fn matrix_lines(programs: &Programs, table: &mut Table, rows: usize, columns: usize) {
    let square = rows == columns;
    let compared = Compared {
        samples: &programs.samples,
        group: group_of(rows, columns),
        title: format!("rank {RANK} of {rows}x{columns}, one thread"),
    };
    let (full, aim) = if square {
        (40.0, Some(Goal::AtLeast(55.0)))
    } else {
        (16.0, None)
    };
    let (group, peers, equal) = (
        &compared.group,
        peers_of(&compared.group),
        equal_of(&compared.group),
    );
    table.0.extend([
        Line {
            must: Some(Goal::AtLeast(full)),
            aim,
            ..compared.over(
                "svd_vs_full",
                "over the full SVD, as mergekit does it",
                (&peers, "svd"),
            )
        },
        Line {
            aim: Some(Goal::AtLeast(1.8)),
            ..compared.over(
                "svd_vs_equal_lowrank",
                "over torch.svd_lowrank at equal quality",
                (&equal, "svd_lowrank"),
            )
        },
        compared.over(
            "svd_vs_lowrank",
            "over torch.svd_lowrank as it comes",
            (&peers, "svd_lowrank"),
        ),
        Line {
            must: Some(Goal::AtMost(5e-4)),
            ..compared.excess("svd_excess", "excess over the exact optimum", (group, OURS))
        },
        compared.excess(
            "equal_lowrank_excess",
            "torch.svd_lowrank at equal quality: its excess",
            (&equal, "svd_lowrank"),
        ),
        compared.excess(
            "lowrank_excess",
            "torch.svd_lowrank as it comes: its excess",
            (&peers, "svd_lowrank"),
        ),
    ]);
    if !square {
        table.0.push(compared.memory());
    }
}

/// One matrix, and who was measured on it.
struct Compared<'a> {
    samples: &'a Samples,
    group: String,
    title: String,
}

impl Compared<'_> {
    fn line(
        &self,
        metric: &'static str,
        what: &str,
        value: Option<f64>,
        show: Show,
        from: String,
    ) -> Line {
        Line {
            metric,
            what: format!("{}: {what}", self.title),
            from,
            value,
            show,
            must: None,
            aim: None,
        }
    }

    /// Their CPU time over ours.
    fn over(&self, metric: &'static str, what: &str, (group, case): (&str, &str)) -> Line {
        let ours = self.samples.smallest(&self.group, OURS, "cpu_s");
        let theirs = self.samples.smallest(group, case, "cpu_s");
        let ratio = ours.zip(theirs).map(|(mine, other)| other / mine);
        self.line(metric, what, ratio, times, seconds(ours, theirs))
    }

    /// How much larger a residual is than the exact optimum's.
    fn excess(&self, metric: &'static str, what: &str, (group, case): (&str, &str)) -> Line {
        let found = self.samples.largest(group, case, "residual");
        // Torch's eigenvalues are the independent judge; without Python our own in f64 must do.
        let judged = self
            .samples
            .smallest(&peers_of(&self.group), "optimum", "residual");
        let best = judged.or_else(|| self.samples.smallest(&self.group, OURS, "optimum"));
        let excess = found.zip(best).map(|(found, best)| found / best - 1.0);
        let show = |residual: Option<f64>| {
            residual.map_or_else(|| "missing".to_owned(), |r| format!("{r:.7}"))
        };
        let from = format!("residual {}, optimum {}", show(found), show(best));
        self.line(metric, what, excess, percent, from)
    }

    fn memory(&self) -> Line {
        let peak = self.samples.largest(&self.group, OURS, "peak_rss_mib");
        let from = "largest resident set of the process".to_owned();
        Line {
            must: Some(Goal::AtMost(1024.0)),
            aim: Some(Goal::AtMost(800.0)),
            ..self.line("svd_peak_rss", "peak memory", peak, mib, from)
        }
    }
}

const TINY: &str = "tiny-pair";

/// The pair that mergekit is measured on, as whole processes.
fn tiny_pair(programs: &mut Programs) -> Result<()> {
    let pair = programs.scratch.join("tiny-pair");
    let mut make = programs
        .script(Whose::Peers, "extract/make_data.py")
        .map_or_else(
            || {
                let mut synth = Command::new(programs.binary("synth"));
                synth.args(["--like", "tiny", "--out"]);
                synth
            },
            |mut script| {
                script.arg("pair");
                script
            },
        );
    programs.make(&pair, make.arg(&pair))?;
    let shown = pair.display().to_string();
    for round in 0..programs.rounds() {
        for threads in ["1", "2"] {
            extract(programs, TINY, round, &pair, ("64", threads))?;
            let theirs = ["--pair", &shown, "--rank", "64", "--threads", threads];
            let name = "extract/mergekit_case.py";
            programs.theirs(
                Whose::Peers,
                &format!("{TINY}-{threads}"),
                round,
                name,
                &theirs,
            )?;
        }
    }
    Ok(())
}

fn tiny_pair_lines(programs: &Programs, table: &mut Table) {
    let samples = &programs.samples;
    let ours = |threads: &str, field| samples.smallest(TINY, &case_of(threads), field);
    let theirs =
        |threads: &str, field| samples.smallest(&format!("{TINY}-{threads}"), "mergekit", field);
    let over = |metric, what: &str, threads: &str, field, must, aim| {
        let (mine, other) = (ours(threads, field), theirs(threads, field));
        Line {
            metric,
            what: format!("mergekit's tiny pair, whole process, {what}"),
            from: match field {
                "wall_s" => seconds(mine, other).replace("CPU s", "s of wall time"),
                _ => seconds(mine, other),
            },
            value: mine.zip(other).map(|(mine, other)| other / mine),
            show: times,
            must,
            aim,
        }
    };
    table.0.extend([
        over(
            "tiny_cpu_vs_mergekit",
            "CPU time, one thread",
            "1",
            "cpu_s",
            Some(Goal::AtLeast(20.0)),
            None,
        ),
        over(
            "tiny_wall_vs_mergekit",
            "wall time, two threads",
            "2",
            "wall_s",
            None,
            Some(Goal::AtLeast(30.0)),
        ),
        Line {
            metric: "tiny_peak_rss",
            what: "mergekit's tiny pair, whole process, peak memory".to_owned(),
            from: theirs("1", "peak_rss_mib")
                .map_or_else(String::new, |peak| format!("mergekit: {}", mib(peak))),
            value: ours("2", "peak_rss_mib"),
            show: mib,
            must: Some(Goal::AtMost(200.0)),
            aim: None,
        },
    ]);
}

const LAYER: &str = "qwen3-32b-layer";

/// One layer of Qwen3-32B, as whole processes on one thread and on two.
fn layer(programs: &mut Programs) -> Result<()> {
    let pair = layer_of_qwen(programs)?;
    let rank = if programs.quick { "64" } else { RANK };
    for round in 0..programs.rounds() {
        for threads in ["1", "2"] {
            extract(programs, LAYER, round, &pair, (rank, threads))?;
        }
    }
    Ok(())
}

fn layer_lines(programs: &Programs, table: &mut Table) {
    let samples = &programs.samples;
    let wall = |threads| samples.smallest(LAYER, &case_of(threads), "wall_s");
    let (one, two) = (wall("1"), wall("2"));
    let what = |what: &str| format!("one Qwen3-32B layer, rank {RANK}: {what}");
    table.0.extend([
        Line {
            metric: "layer_two_threads",
            what: what("two threads over one"),
            from: seconds(two, one).replace("CPU s", "s of wall time"),
            value: one.zip(two).map(|(one, two)| one / two),
            show: times,
            must: Some(Goal::AtLeast(1.7)),
            aim: Some(Goal::AtLeast(1.9)),
        },
        Line {
            metric: "layer_times_64_minutes",
            what: what("64 of them, two threads"),
            from: two.map_or_else(String::new, |two| {
                format!("{two:.2} s a layer, wall, with reading")
            }),
            value: two.map(|two| two * LAYERS / 60.0),
            show: minutes,
            must: Some(Goal::AtMost(25.0)),
            aim: Some(Goal::AtMost(15.0)),
        },
        Line {
            metric: "layer_peak_rss",
            what: what("peak memory, two threads"),
            from: "largest resident set of the process".to_owned(),
            value: samples.largest(LAYER, &case_of("2"), "peak_rss_mib"),
            show: mib,
            must: Some(Goal::AtMost(2048.0)),
            aim: None,
        },
        Line {
            metric: "layer_worst_excess",
            what: what("worst stated excess"),
            from: "certified or estimated, of any module".to_owned(),
            value: samples.largest(LAYER, &case_of("2"), "worst_excess"),
            show: percent,
            must: Some(Goal::AtMost(5e-4)),
            aim: None,
        },
    ]);
}

fn case_of(threads: &str) -> String {
    format!("extract-{threads}-threads")
}

/// `xgraft extract` as a whole process; what its report says of the worst excess is kept with its cost.
fn extract(
    programs: &mut Programs,
    group: &str,
    round: u32,
    pair: &Path,
    (rank, threads): (&str, &str),
) -> Result<()> {
    let out = programs.scratch.join(format!("{group}-adapter"));
    let path = |path: PathBuf| path.display().to_string();
    let arguments = [
        "extract".to_owned(),
        "--base".to_owned(),
        path(pair.join("base")),
        "--tuned".to_owned(),
        path(pair.join("tuned")),
        "--rank".to_owned(),
        rank.to_owned(),
        "--threads".to_owned(),
        threads.to_owned(),
        "--force".to_owned(),
        "--out".to_owned(),
        path(out.clone()),
    ];
    programs.xgraft(group, round, &case_of(threads), &arguments, |_| {
        worst_excess(&out)
    })
}

/// The worst stated excess of an extraction.
fn worst_excess(out: &Path) -> Result<Value> {
    let file = out.join("report.json");
    let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let report: Value = serde_json::from_slice(&text)?;
    let stated = &report["totals"]["worst_excess"];
    let value = stated
        .as_object()
        .and_then(|kinds| kinds.values().next())
        .cloned();
    Ok(json!({"worst_excess": value.unwrap_or(Value::Null), "totals": report["totals"]}))
}
