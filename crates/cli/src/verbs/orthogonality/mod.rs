//! `xgraft orthogonality`

mod tables;

use std::path::Path;
use std::process::ExitCode;

use anyhow::ensure;
use serde_json::json;
use xgraft_adapter_sanitize::plain_lora;
use xgraft_checkpoint::{Adapter, Checkpoint};
use xgraft_orthogonality::{Event, Noise, compare};
use xgraft_results::{Finding, Input};

use crate::args::{Always, NoiseArg, Orthogonality};
use crate::interrupt;
use crate::origin::of_other_weights;
use crate::output::{Account, begin, commit, judged, print_findings, say_json};
use crate::progress::Progress;

pub(crate) fn run(args: &Orthogonality, always: &Always) -> anyhow::Result<ExitCode> {
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
    let out = begin(args.out.as_ref(), args.output.force, &work, inputs)?;
    let progress = Progress::new("orthogonality", "weight");
    let result = compare(
        &noises,
        &adapters[0],
        adapters.get(1),
        args.random.seed,
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
    let (mut report, inputs) = result?;
    for adapter in &args.adapters {
        report
            .findings
            .extend(of_no_noise(adapter, &noises, &inputs));
    }
    if let Some(out) = out {
        let account = Account {
            verb: "orthogonality",
            config: work,
            seed: Some(args.random.seed),
            inputs,
            rows: report.rows(),
            report: &report,
            findings: &report.findings,
        };
        commit(out, account)?;
    }
    if always.json {
        say_json(&report)?;
    } else {
        tables::print(&report, args.all)?;
    }
    print_findings(&report.findings);
    Ok(judged(report.passed()))
}

/// What is to be known of an adapter that is of the weights of no noise.
fn of_no_noise(adapter: &Path, noises: &[Noise], inputs: &[Input]) -> Option<Finding> {
    let of = |noise: &Noise| {
        let sides = ["original", "quantized"].map(|side| format!("{side} of {}", noise.label));
        of_other_weights(adapter, inputs.iter().filter(|i| sides.contains(&i.role)))
    };
    let mut of_each = noises.iter().map(of);
    of_each.next()?.filter(|_| of_each.all(|f| f.is_some()))
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
