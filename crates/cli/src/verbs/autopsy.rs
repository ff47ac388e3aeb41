//! `xgraft autopsy`

use std::process::ExitCode;
use xgraft_results::human::{bytes, percent};

use serde_json::json;
use xgraft_autopsy::{Error, Event, Report, TensorReport, Thresholds, autopsy, inputs};
use xgraft_checkpoint::{Checkpoint, OutputDir};
use xgraft_results::Input;

use crate::args::{Always, Autopsy};
use crate::interrupt;
use crate::output::{Account, begin, commit, judged, print_grouped, say, say_json};
use crate::progress::Progress;
use crate::table::Table;

/// The most findings of one kind that are printed.
const LIST_FINDINGS: usize = 16;

pub(crate) fn run(args: &Autopsy, always: &Always) -> anyhow::Result<ExitCode> {
    let mut thresholds = Thresholds::default();
    for text in &args.thresholds {
        thresholds.set(text)?;
    }
    let checkpoint = Checkpoint::open(&args.dir).map_err(Error::from)?;
    let reference = match &args.reference {
        Some(dir) => Some(Checkpoint::open(dir).map_err(Error::from)?),
        None => None,
    };
    let work = json!({ "thresholds": thresholds.to_json(), "reference": reference.is_some() });
    let inputs = [&args.dir].into_iter().chain(&args.reference);
    let out = begin(args.out.as_ref(), args.output.force, &work, inputs)?;
    let progress = Progress::new("autopsy", "weight");
    let result = autopsy(&checkpoint, reference.as_ref(), &thresholds, &|event| {
        match event {
            Event::Planned { elements } => progress.begin(elements, 0),
            Event::Begin { tensor } => progress.subject(tensor),
            Event::Done { elements } => progress.advance(elements),
            _ => {}
        }
        interrupt::check()
    });
    progress.finish();
    let finished = result.map_err(anyhow::Error::from).and_then(|report| {
        let read = match &out {
            Some(_) => digests(&checkpoint, reference.as_ref())?,
            None => Vec::new(),
        };
        Ok((report, read))
    });
    let (report, read) = match finished {
        Ok(finished) => finished,
        Err(error) => {
            // There is nothing to resume.
            out.map_or(Ok(()), OutputDir::discard)?;
            return Err(error);
        }
    };
    if let Some(out) = out {
        let account = Account {
            verb: "autopsy",
            config: work,
            seed: None,
            inputs: read,
            rows: report.rows("autopsy"),
            report: &report,
            findings: &report.findings,
        };
        commit(out, account)?;
    }
    if always.json {
        say_json(&report)?;
    } else {
        print(&report, args.all, reference.is_some())?;
        print_grouped(&report.gathered(), LIST_FINDINGS);
    }
    Ok(judged(report.healthy))
}

/// The manifest's account of what was read.
fn digests(checkpoint: &Checkpoint, reference: Option<&Checkpoint>) -> anyhow::Result<Vec<Input>> {
    let progress = Progress::new("digests", "byte");
    let bytes = checkpoint.total_bytes() + reference.map_or(0, Checkpoint::total_bytes);
    progress.begin(bytes, 0);
    let on_bytes = |bytes| {
        progress.advance(bytes);
        interrupt::check()
    };
    let read = inputs(checkpoint, "checkpoint", &on_bytes).and_then(|mut read| {
        if let Some(reference) = reference {
            read.extend(inputs(reference, "reference", &on_bytes)?);
        }
        Ok(read)
    });
    progress.finish();
    Ok(read?)
}

fn print(report: &Report, all: bool, with_reference: bool) -> anyhow::Result<()> {
    let mut listed: Vec<Vec<&TensorReport>> = match all {
        true => report.tensors.iter().map(|t| vec![t]).collect(),
        false => report.alike(),
    };
    listed.sort_by_key(|group| std::cmp::Reverse(group[0].verdict));
    if !listed.is_empty() {
        say(&tensors(&listed, with_reference))?;
    }
    say(&roles(report, with_reference))?;
    let sick = report.roles.iter().map(|r| r.sick).sum::<usize>();
    say(&format!(
        "{} tensors, {sick} sick; {} in {:.1} s{}",
        report.tensors.len(),
        bytes(report.bytes),
        report.seconds,
        match with_reference {
            true => "",
            false => " (without --reference only gross faults show)",
        },
    ))
}

/// One line for the first of each group.
fn tensors(listed: &[Vec<&TensorReport>], with_reference: bool) -> String {
    let mut head = vec![
        "tensor",
        "verdict",
        "stored",
        "mean",
        "std",
        "min",
        "max",
        "kurtosis",
        "zeros",
        "saturated",
    ];
    if with_reference {
        head.extend(["correlation", "relative error", "SNR"]);
    }
    let mut table = Table::new(&head);
    let or_dash = |x: Option<f64>, text: &dyn Fn(f64) -> String| x.map_or_else(|| "-".into(), text);
    for group in listed {
        let t = group[0];
        let stats = t.stats.as_ref();
        let of = |f: &dyn Fn(&xgraft_autopsy::Stats) -> f64| or_dash(stats.map(f), &short);
        let mut cells = vec![
            match group.len() {
                1 => t.tensor.clone(),
                n => format!("{} (+ {} alike)", t.tensor, n - 1),
            },
            t.verdict.name().to_owned(),
            t.stored.clone(),
            of(&|s| s.mean),
            of(&|s| s.std),
            of(&|s| s.min),
            of(&|s| s.max),
            or_dash(stats.and_then(|s| s.kurtosis), &short),
            or_dash(stats.map(|s| s.zero_share), &percent),
            or_dash(stats.and_then(|s| s.saturated_share), &percent),
        ];
        if with_reference {
            let r = t.reference.as_ref();
            cells.extend([
                or_dash(r.and_then(|r| r.correlation), &|x| format!("{x:.4}")),
                or_dash(r.and_then(|r| r.relative_error), &percent),
                or_dash(r.and_then(|r| r.snr_db), &|x| format!("{x:.1} dB")),
            ]);
        }
        table.row(cells);
    }
    table.render()
}

fn roles(report: &Report, with_reference: bool) -> String {
    let mut head = vec![
        "role",
        "tensors",
        "sick",
        "std",
        "largest",
        "kurtosis up to",
    ];
    if with_reference {
        head.push("relative error up to");
    }
    let mut table = Table::new(&head);
    for r in &report.roles {
        let [low, high] = r.std.map(short);
        let mut cells = vec![
            r.role.to_string(),
            r.tensors.to_string(),
            r.sick.to_string(),
            if low == high {
                low
            } else {
                format!("{low}–{high}")
            },
            short(r.abs_max),
            r.kurtosis_max.map_or_else(|| "-".into(), short),
        ];
        if with_reference {
            cells.push(r.relative_error_max.map_or_else(|| "-".into(), percent));
        }
        table.row(cells);
    }
    table.render()
}

/// Three or four digits.
fn short(x: f64) -> String {
    match x.abs() {
        a if a == 0.0 || (1e-3..1e4).contains(&a) => format!("{x:.4}"),
        _ => format!("{x:.2e}"),
    }
}
