//! Running the steps.

use super::{
    evaluate::{Fleet, ask, judged, refused},
    recipe::{Profile, Recipe},
    shown, space,
    stamp::{self, Stamp},
    steps::{Kind, Step},
    units,
};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Instant,
};
use xshell::{Shell, cmd};

/// Builds the tool and runs every step that its stamp does not let skip.
pub(super) fn run(
    sh: &Shell,
    recipe: &Recipe,
    steps: &[Step],
    threads: Option<usize>,
) -> Result<()> {
    let binary = build(sh, recipe.profile)?;
    let tool = stamp::tool(&binary)?;
    space::warn_if_short(sh, recipe, steps)?;
    let mut fleet: Option<Fleet> = None;
    for (index, step) in steps.iter().enumerate() {
        let place = format!("[{}/{}] {}", index + 1, steps.len(), step.name);
        if stamp::holds(step, &tool) {
            println!("{place}: up to date");
            continue;
        }
        println!("{place}: xgraft {}", step.shown());
        let start = Instant::now();
        fleet = match (&step.serving, fleet) {
            (Some(wanted), Some(fleet)) if fleet.serves(wanted) => Some(fleet),
            (wanted, old) => {
                // Two fleets at a time would share the cores.
                drop(old);
                let folder = step.out.parent().unwrap_or(&step.out);
                let start = |serving| Fleet::start(&binary, serving, folder);
                wanted.as_ref().map(start).transpose()?
            }
        };
        match (step.kind, &fleet) {
            (Kind::Ask, Some(fleet)) => ask::ask(&binary, step, &tool, fleet)?,
            (Kind::AskAndKill, Some(fleet)) => ask::ask_and_kill(&binary, step, &tool, fleet)?,
            (Kind::Judge, _) => judged::run(&binary, step, &tool)?,
            (Kind::MustFail, _) => refused::run(&binary, step)?,
            _ => run_step(&binary, step, threads)?,
        }
        Stamp::of(step, &tool)?.write(step)?;
        println!(
            "{place}: done in {}",
            units::seconds(start.elapsed().as_secs_f64())
        );
    }
    Ok(())
}

/// Builds `xgraft` and gives its path.
fn build(sh: &Shell, profile: Profile) -> Result<PathBuf> {
    let (name, folder) = match profile {
        Profile::Dev => ("dev", "debug"),
        Profile::Release => ("release", "release"),
    };
    cmd!(
        sh,
        "cargo build --locked --package xgraft-cli --package xgraft-fixtures --bins --profile {name}"
    )
    .quiet()
    .run()
    .context("the tool does not build")?;
    let target = workspace::metadata(sh)?.target_directory;
    let binary = target.join(folder).join("xgraft");
    Ok(binary.with_extension(std::env::consts::EXE_EXTENSION))
}

/// Runs one step. What it says to the terminal (progress, findings, errors) goes there; what it prints as its result goes to a
/// log beside its folder, because the pipeline ends with one table of its own.
fn run_step(binary: &Path, step: &Step, threads: Option<usize>) -> Result<()> {
    let out = workspace::root().join(&step.out);
    let log = out.with_file_name(format!("{}.stdout.txt", step.name));
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let log_file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let program = match step.kind {
        Kind::Spoil => binary.with_file_name("spoil"),
        _ => binary.to_owned(),
    };
    let mut command = Command::new(program);
    command
        .args(&step.arguments)
        .arg("--out")
        .arg(&step.out)
        // The folder below `out/reproduce` is ours; unfinished work of the same configuration is resumed all the same.
        .arg("--force")
        .current_dir(workspace::root())
        .stdout(log_file);
    // a report is drawn by one, and a copy made by one
    let alone = [Kind::Report, Kind::Spoil].contains(&step.kind);
    if let Some(threads) = threads.filter(|_| !alone) {
        command.arg("--threads").arg(threads.to_string());
    }
    let status = command.status().context("cannot start xgraft")?;
    if !status.success() {
        fail(step, &log, status)?;
    }
    Ok(())
}

fn fail(step: &Step, log: &Path, status: ExitStatus) -> Result<()> {
    let printed = fs::read_to_string(log).unwrap_or_default();
    if !printed.trim().is_empty() {
        eprintln!("{}", printed.trim_end());
    }
    let verb = step.shown();
    bail!(
        "step {} failed ({status})\nit was: xgraft {verb} --out {} --force\n\
         its result so far: {}\nhint: what is done is kept; run the same `cargo xtask reproduce` again to go on from there",
        step.name,
        step.out.display(),
        shown(log)
    )
}
