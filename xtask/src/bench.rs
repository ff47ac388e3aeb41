//! `cargo xtask bench`: builds the benchmarks in release and starts their harness.

pub(crate) mod gpu;

use crate::workspace;
use anyhow::Result;
use std::path::PathBuf;
use xshell::{Shell, cmd};

/// Which suites, against which peers.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    elsewhere: Option<Elsewhere>,
    /// `extract`, `codec`, `autopsy`, `orthogonality`, `serve`, `balance`; all by default.
    #[arg(value_name = "NAMES")]
    names: Vec<String>,
    /// A Python with `benches/peers/requirements.txt` installed, in place of the environment's `XGRAFT_BENCH_PYTHON`; without
    /// either the peers' numbers are missing.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// A Python with llama-cpp-python and gguf installed, in place of the environment's `XGRAFT_BENCH_LLAMA`; without either
    /// llama.cpp's numbers are missing.
    #[arg(long, value_name = "PATH")]
    llama: Option<PathBuf>,
    /// A Python with vllm-router and sglang-router installed, in place of the environment's `XGRAFT_BENCH_ROUTERS`; without either
    /// their numbers are missing. HAProxy is used if it is installed.
    #[arg(long, value_name = "PATH")]
    routers: Option<PathBuf>,
    /// Small sizes and one round: to try the harness, not to measure. Kept in `out/bench`.
    #[arg(long)]
    quick: bool,
}

/// Suites that run on another machine.
#[derive(clap::Subcommand, Debug)]
enum Elsewhere {
    /// The GPU's kernels against cuBLASLt, torch, Triton and DeepGEMM: makes the bundle for a machine that has a GPU.
    Gpu(gpu::Args),
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    if let Some(Elsewhere::Gpu(args)) = &args.elsewhere {
        return gpu::run(sh, args);
    }
    cmd!(
        sh,
        "cargo build --release --locked --package benches --package xgraft-cli --package xgraft-fixtures --bins"
    )
    .run()?;
    let names = if args.names.is_empty() {
        [
            "extract",
            "codec",
            "autopsy",
            "orthogonality",
            "serve",
            "balance",
        ]
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
    let python = interpreter("--python", args.python.as_ref(), "XGRAFT_BENCH_PYTHON")?;
    let llama = interpreter("--llama", args.llama.as_ref(), "XGRAFT_BENCH_LLAMA")?;
    let routers = interpreter("--routers", args.routers.as_ref(), "XGRAFT_BENCH_ROUTERS")?;
    let quick = args.quick.then_some("--quick");
    cmd!(
        sh,
        "{harness} {names...} --binaries {release} --peers {peers} --scratch {scratch} --runs {runs} {python...} {llama...} {routers...} {quick...}"
    )
    .run()?;
    Ok(())
}

/// The flag and its path: as given, or else from the environment.
fn interpreter(flag: &str, given: Option<&PathBuf>, variable: &str) -> Result<Vec<PathBuf>> {
    let path = given
        .cloned()
        .or_else(|| std::env::var_os(variable).map(PathBuf::from));
    match path {
        Some(path) => Ok(vec![flag.into(), workspace::from_callers_folder(&path)?]),
        None => Ok(Vec::new()),
    }
}
