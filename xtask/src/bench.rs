//! `cargo xtask bench`: builds the benchmarks in release and starts their harness.

use crate::workspace;
use anyhow::Result;
use std::path::PathBuf;
use xshell::{Shell, cmd};

/// Which suites, against which peers.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// `extract`, `codec`, `autopsy`, `orthogonality`; all by default.
    #[arg(value_name = "NAMES")]
    names: Vec<String>,
    /// A Python with `benches/peers/requirements.txt` installed, in place of the environment's `XGRAFT_BENCH_PYTHON`; without
    /// either the peers' numbers are missing.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Small sizes and one round: to try the harness, not to measure. Kept in `out/bench`.
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    cmd!(
        sh,
        "cargo build --release --locked --package benches --package xgraft-cli --package xgraft-fixtures --bins"
    )
    .run()?;
    let names = if args.names.is_empty() {
        ["extract", "codec", "autopsy", "orthogonality"]
            .map(str::to_owned)
            .to_vec()
    } else {
        args.names.clone()
    };
    let release = workspace::metadata(sh)?.target_directory.join("release");
    let harness = release.join("extract");
    let root = workspace::root();
    let peers = root.join("benches/peers");
    let (scratch, runs) = if args.quick {
        ("out/bench/quick", "out/bench/runs")
    } else {
        ("out/bench/data", "benches/runs")
    };
    let given = std::env::var_os("XGRAFT_BENCH_PYTHON").map(PathBuf::from);
    let python = match args.python.clone().or(given) {
        Some(python) => vec!["--python".into(), workspace::from_callers_folder(&python)?],
        None => Vec::new(),
    };
    let quick = args.quick.then_some("--quick");
    cmd!(
        sh,
        "{harness} {names...} --binaries {release} --peers {peers} --scratch {scratch} --runs {runs} {python...} {quick...}"
    )
    .run()?;
    Ok(())
}
