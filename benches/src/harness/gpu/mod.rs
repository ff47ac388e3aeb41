//! A run on a GPU, taken into the benchmarks: its table against what was asked for, rows for figures, measured choices of kernels.
//!
//! The run itself is the bundle's: a driver in Python that needs no Rust (`benches/gpu`).

mod floor;
mod folder;
mod lines;
mod rows;
mod tuned;

use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};
use xgraft_plot::Source;
use xgraft_results::jsonl;

use super::{Table, record::today};
use floor::Peaks;
use folder::{FILES, Folder};

/// Takes the folder that the driver wrote into a new one below `runs`; gives that.
///
/// # Errors
/// It holds no run, or one of a device that pretends, unless `rehearsal` says that nothing was to be measured.
pub fn take(results: &Path, runs: &Path, rehearsal: bool) -> Result<(PathBuf, Table)> {
    let run = Folder::read(results)?;
    if run.mock && !rehearsal {
        bail!(
            "{} is of a device that pretends: nothing in it was measured",
            results.display()
        );
    }
    let peaks = Peaks::of(&run.machine);
    let table = Table(lines::all(&run, peaks));
    let folder = new_folder(runs, &run)?;
    for name in FILES {
        let from = run.path.join(name);
        if from.exists() {
            fs::copy(&from, folder.join(name))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    jsonl::write_file(&folder.join("rows.jsonl"), &rows::all(&run, peaks))?;
    fs::write(folder.join("measured.txt"), tuned::table(&run)?)?;
    fs::write(folder.join("README.md"), readme(&run, &table))?;
    let label = folder.file_name().unwrap_or_default().to_string_lossy();
    let source = Source {
        label: label.into_owned(),
        dir: folder.clone(),
        totals: false,
    };
    let title = if run.mock {
        "A rehearsal on a device that pretends: nothing here was measured"
    } else {
        "FP8 products on a GPU"
    };
    xgraft_plot::report(title, &[source])?.write(&folder)?;
    Ok((folder, table))
}

fn new_folder(runs: &Path, run: &Folder) -> Result<PathBuf> {
    let gpu = run.machine["identity"]["name"].as_str().unwrap_or("gpu");
    let gpu = gpu.to_lowercase();
    let words = gpu.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).take(3).collect();
    let name = format!("{}-{}", today(), words.join("-"));
    let numbered = (2..).map(|n| runs.join(format!("{name}-{n}")));
    let mut names = std::iter::once(runs.join(&name)).chain(numbered);
    let folder = names.find(|path| !path.exists()).unwrap_or_default();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn readme(run: &Folder, table: &Table) -> String {
    let mock = if run.mock {
        "\n**A rehearsal on a device that pretends: every number is made up.**\n"
    } else {
        ""
    };
    let mut machine = run.machine.clone();
    // Their digests are in machine.json.
    if let Some(bundle) = machine["bundle"].as_object_mut() {
        bundle.remove("files");
    }
    let machine = serde_json::to_string_pretty(&machine).unwrap_or_default();
    let errors = run.samples.iter().filter_map(|sample| {
        let error = sample.error.as_deref()?;
        Some(format!(
            "- {} m={} {}: {error}\n",
            sample.layer,
            sample.m,
            sample.arm()
        ))
    });
    let errors: String = errors.collect();
    let errors = if errors.is_empty() {
        String::new()
    } else {
        format!("\n## What was not timed\n\n{errors}")
    };
    let sanitized = run.sanitized.iter().map(|tool| {
        let said = tool
            .error
            .as_deref()
            .or(tool.summary.as_deref())
            .unwrap_or("");
        let word = match tool.ok {
            Some(true) => "nothing found",
            Some(false) => "FOUND",
            None => "not run",
        };
        format!("- {}: {word}; {said}\n", tool.tool)
    });
    let sanitized: String = sanitized.collect();
    let left_out = match run.left_out.as_slice() {
        [] => String::new(),
        what => format!("\n## What there was no time for\n\n{}\n", what.join(", ")),
    };
    format!(
        "# Run on a GPU\n{mock}\n\
         `python3 run.py` of the bundle of `cargo xtask bench gpu`. Ours and theirs by turns in one process, weights in copies that \
         no cache holds, medians of graphs of launches. Every sample is in `samples.jsonl`, the figures are in `report.html`.\n\n\
         {}\n## compute-sanitizer\n\n{sanitized}\n## Machine\n\n```json\n{machine}\n```\n{errors}{left_out}",
        table.markdown()
    )
}
