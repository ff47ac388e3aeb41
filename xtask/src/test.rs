//! `cargo xtask test`: the tests of the whole workspace.
//!
//! The dev profile is optimised, so there is no second build. The output is cargo's own, passed through line by line;
//! only the last binary's closing lines are held back until the summary is printed, so that they stay the last.

mod summary;

use crate::{
    tidy::ignored::{self, Ignored, Kind},
    workspace,
};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Command,
    time::Instant,
};
use summary::Summary;
use xshell::Shell;

/// Which tests.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    /// Run only the tests that are ignored as slow, in the release profile.
    #[arg(long, conflicts_with = "gpu")]
    slow: bool,
    /// Run only the tests that are ignored for want of a GPU.
    #[arg(long)]
    gpu: bool,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    match (args.slow, args.gpu) {
        (true, _) => run_ignored(sh, Kind::Slow, &["--release"]),
        (_, true) => run_ignored(sh, Kind::Gpu, &[]),
        _ => cargo_test(&["--workspace", "--locked", "--no-fail-fast"]),
    }
}

/// Runs the ignored tests of one kind: the packages that have some, and in them only those names.
fn run_ignored(sh: &Shell, kind: Kind, flags: &[&str]) -> Result<()> {
    let wanted: Vec<Ignored> = ignored::scan(sh)?
        .into_iter()
        .filter(|test| test.kind == Some(kind))
        .collect();
    if wanted.is_empty() {
        println!("no test is ignored as `{}`", kind.prefix());
        return Ok(());
    }
    let packages: BTreeSet<String> = workspace::metadata(sh)?
        .packages
        .into_iter()
        .filter(|package| {
            let folder = package.folder();
            wanted.iter().any(|test| test.file.starts_with(&folder))
        })
        .map(|package| package.name)
        .collect();
    let mut arguments = vec!["--locked", "--no-fail-fast"];
    arguments.extend(flags);
    for package in &packages {
        arguments.extend(["--package", package]);
    }
    arguments.extend(["--", "--ignored"]);
    arguments.extend(wanted.iter().map(|test| test.name.as_str()));
    cargo_test(&arguments)
}

fn cargo_test(arguments: &[&str]) -> Result<()> {
    println!("$ cargo test {}", arguments.join(" "));
    let start = Instant::now();
    // One pipe for both streams keeps cargo's own order of lines.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut cargo = Command::new("cargo")
        .arg("test")
        .args(arguments)
        .current_dir(workspace::root())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .context("cannot start cargo")?;
    let mut summary = Summary::default();
    for line in BufReader::new(reader).split(b'\n') {
        for ready in summary.take_in(&String::from_utf8_lossy(&line?)) {
            println!("{ready}");
        }
    }
    let status = cargo.wait()?;
    print!("{}", summary.render(start.elapsed()));
    ensure!(status.success(), "cargo test failed ({status})");
    Ok(())
}
