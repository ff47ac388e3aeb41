//! `xgraft orthogonality`

use std::path::Path;
use std::process::ExitCode;

use anyhow::ensure;
use serde_json::json;
use xgraft_adapter_sanitize::plain_lora;
use xgraft_checkpoint::{Adapter, Checkpoint};
use xgraft_orthogonality::{Cosines, Event, Noise, NoiseSummary, Report, Summary, compare};

use crate::args::{Global, NoiseArg, Orthogonality};
use crate::interrupt;
use crate::output::{Account, begin, commit, judged, print_findings, say, say_json};
use crate::progress::Progress;
use crate::table::{Table, percent};

pub(crate) fn run(args: &Orthogonality, global: &Global) -> anyhow::Result<ExitCode> {
    ensure!(
        args.adapters.len() <= 2,
        "expected one or two --adapter, found {}",
        args.adapters.len()
    );
    let noises = open(&args.noises)?;
    let adapters = args.adapters.iter().map(Adapter::open);
    let adapters: Vec<Adapter> = adapters.collect::<Result<_, _>>()?;
    adapters.iter().try_for_each(plain_lora)?;
    let work = json!({
        "noises": noises.iter().map(|n| json!({
            "label": n.label,
            "original": n.original.dir(),
            "quantized": n.quantized.dir(),
        })).collect::<Vec<_>>(),
        "adapters": args.adapters,
    });
    let sides = args.noises.iter().flat_map(|n| [&n.original, &n.quantized]);
    let inputs = sides.chain(&args.adapters);
    let out = begin(args.out.as_ref(), global.force, &work, inputs)?;
    let progress = Progress::new("orthogonality", "weight");
    let result = compare(
        &noises,
        &adapters[0],
        adapters.get(1),
        global.seed,
        &|event| {
            match event {
                Event::Planned { elements } => progress.begin(elements, 0),
                Event::Begin { module } => progress.subject(module),
                Event::Done { elements } => progress.advance(elements),
                _ => {}
            }
            interrupt::check()
        },
    );
    progress.finish();
    let (report, inputs) = result?;
    if let Some(out) = out {
        let account = Account {
            verb: "orthogonality",
            config: work,
            seed: Some(global.seed),
            inputs,
            rows: report.rows(),
            report: &report,
            findings: &report.findings,
        };
        commit(out, account)?;
    }
    if global.json {
        say_json(&report)?;
    } else {
        print(&report)?;
    }
    print_findings(&report.findings);
    Ok(judged(report.passed()))
}

/// A noise is called as its quantized directory, by the whole path where two have one name.
fn open(args: &[NoiseArg]) -> anyhow::Result<Vec<Noise>> {
    let name = |path: &Path| {
        let last = path.components().next_back();
        last.map_or_else(String::new, |c| {
            c.as_os_str().to_string_lossy().into_owned()
        })
    };
    let mut noises = Vec::new();
    for arg in args {
        let short = name(&arg.quantized);
        let same = args.iter().filter(|a| name(&a.quantized) == short).count();
        noises.push(Noise {
            label: match same {
                1 => short,
                _ => arg.quantized.display().to_string(),
            },
            original: Checkpoint::open(&arg.original)?,
            quantized: Checkpoint::open(&arg.quantized)?,
        });
    }
    Ok(noises)
}

fn print(report: &Report) -> anyhow::Result<()> {
    let whole = [report.whole.clone()];
    let projections: Vec<&Summary> = report.by_projection.iter().chain(&whole).collect();
    let layers: Vec<&Summary> = report.by_layer.iter().chain(&whole).collect();
    for noise in &report.whole.noises {
        say(&format!("{}: {}\n", noise.noise, report.convention))?;
        say(&sizes("projection", &noise.noise, &projections).render())?;
        say(&cosines("projection", &noise.noise, &projections).render())?;
        say(&sizes("layer", &noise.noise, &layers).render())?;
    }
    if !report.whole.pairs.is_empty() {
        say(&pairs(&projections).render())?;
    }
    if report.whole.overlap.is_some() {
        say(&overlaps(&projections).render())?;
    }
    for words in &report.words {
        say(words)?;
    }
    Ok(())
}

/// The summaries that have this noise.
fn of_noise<'a>(
    noise: &'a str,
    groups: &'a [&'a Summary],
) -> impl Iterator<Item = (&'a str, &'a NoiseSummary)> {
    groups.iter().flat_map(move |group| {
        let these = group.noises.iter().filter(move |n| n.noise == noise);
        these.map(|n| (group.name.as_str(), n))
    })
}

fn sizes(by: &str, noise: &str, groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        by,
        "weights",
        "‖N‖/‖L‖",
        "‖N‖/‖W‖",
        "|cos|",
        "chance",
        "N in U",
        "chance",
        "N in V",
        "chance",
        "SNR inside",
        "st. rank N",
        "st. rank L",
    ]);
    for (name, n) in of_noise(noise, groups) {
        table.row(vec![
            name.to_owned(),
            n.modules.to_string(),
            format!("{:.3}", n.over_adapter),
            percent(n.over_weight),
            cosine(n.cosine.mean_abs),
            cosine(n.cosine.chance),
            percent(n.left.energy),
            percent(n.left.energy_chance),
            percent(n.right.energy),
            percent(n.right.energy_chance),
            n.snr_inside_db
                .map_or_else(|| "-".into(), |x| format!("{x:+.1} dB")),
            format!("{:.1}", n.stable_rank),
            format!("{:.1}", n.adapter_stable_rank),
        ]);
    }
    table
}

/// Mean |cosine| and largest |z| of the noise with the update and with each control.
fn cosines(by: &str, noise: &str, groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        by,
        "chance",
        "N·L",
        "max |z|",
        "N·random",
        "max |z|",
        "N·shuffled",
        "max |z|",
        "N·other layer",
        "max |z|",
    ]);
    for (name, n) in of_noise(noise, groups) {
        let mut cells = vec![name.to_owned(), cosine(n.cosine.chance)];
        for control in [
            Some(n.cosine),
            Some(n.random),
            Some(n.shuffled),
            n.other_layer,
        ] {
            cells.extend(cosine_cells(control));
        }
        table.row(cells);
    }
    table
}

fn cosine_cells(cosines: Option<Cosines>) -> [String; 2] {
    match cosines {
        Some(c) => [cosine(c.mean_abs), format!("{:.1}", c.max_abs_z)],
        None => ["-".into(), "-".into()],
    }
}

/// An absolute cosine, which may be next to nothing.
fn cosine(x: f64) -> String {
    if x < 0.01 {
        format!("{x:.1e}")
    } else {
        format!("{x:.3}")
    }
}

fn pairs(groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        "two noises",
        "weights",
        "mean cos",
        "|cos|",
        "chance",
        "max |z|",
    ]);
    for group in groups {
        for p in &group.pairs {
            table.row(vec![
                format!("{}: {}", p.pair, group.name),
                p.cosine.modules.to_string(),
                format!("{:+.4}", p.cosine.mean),
                cosine(p.cosine.mean_abs),
                cosine(p.cosine.chance),
                format!("{:.1}", p.cosine.max_abs_z),
            ]);
        }
    }
    table
}

fn overlaps(groups: &[&Summary]) -> Table {
    let mut table = Table::new(&[
        "two adapters",
        "weights",
        "U overlap",
        "chance",
        "V overlap",
        "chance",
        "|cos|",
        "chance",
        "max |z|",
    ]);
    for group in groups {
        if let Some(o) = &group.overlap {
            table.row(vec![
                group.name.clone(),
                o.modules.to_string(),
                format!("{:.4}", o.left),
                format!("{:.4}", o.left_chance),
                format!("{:.4}", o.right),
                format!("{:.4}", o.right_chance),
                cosine(o.cosine.mean_abs),
                cosine(o.cosine.chance),
                format!("{:.1}", o.cosine.max_abs_z),
            ]);
        }
    }
    table
}
