//! The harness of `cargo xtask bench`: runs suites of benchmarks, prints their table, keeps every sample.
#![expect(clippy::print_stdout, reason = "the table is the output")]

use anyhow::{Context, Result};
use benches::harness::{
    Programs, Record, Samples, Table, autopsy, balance, codec, extract, orthogonality, serve,
};
use clap::{Parser, ValueEnum};
use std::{fs, path::PathBuf};

/// Runs suites of benchmarks against their peers.
#[derive(Debug, Parser)]
struct Args {
    /// The suites.
    #[arg(value_enum, required = true)]
    suites: Vec<Suite>,
    /// The folder of our binaries, built in release.
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
    /// The folder of the peers' scripts.
    #[arg(long, value_name = "DIR")]
    peers: PathBuf,
    /// A Python with the peers installed; without it their numbers are missing.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// A Python with llama-cpp-python and gguf installed; without it llama.cpp's numbers are missing.
    #[arg(long, value_name = "PATH")]
    llama: Option<PathBuf>,
    /// A Python with vllm-router and sglang-router installed; without it their numbers are missing.
    #[arg(long, value_name = "PATH")]
    routers: Option<PathBuf>,
    /// A folder for data that is made for the run, and kept for the next one.
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// Where the run's folder goes.
    #[arg(long, value_name = "DIR")]
    runs: PathBuf,
    /// Small sizes and one round: to try the harness, not to measure.
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Truncated SVD, and `xgraft extract` as a whole process.
    Extract,
    /// FP8 block quantize and dequantize.
    Codec,
    /// `xgraft autopsy` against NumPy, torch, and reading the bytes.
    Autopsy,
    /// `xgraft orthogonality` of one matrix against its extraction.
    Orthogonality,
    /// The bare model on the CPU against llama.cpp and the speed of reading memory.
    Serve,
    /// `xgraft balance` against HAProxy and other routers, before mock backends.
    Balance,
}

impl Suite {
    /// Whether it compares with what the first Python has.
    fn needs_python(self) -> bool {
        !matches!(self, Self::Serve | Self::Balance)
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let scratch = &args.scratch;
    fs::create_dir_all(scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let mut programs = Programs {
        binaries: args.binaries,
        peers: args.peers,
        python: args.python,
        llama: args.llama,
        routers: args.routers,
        scratch: args.scratch,
        quick: args.quick,
        samples: Samples::default(),
    };
    let mut table = Table::default();
    let record = Record::begin(&args.runs, command(&args.suites, &programs));
    for suite in &args.suites {
        match suite {
            Suite::Extract => extract::run(&mut programs, &mut table)?,
            Suite::Codec => codec::run(&mut programs, &mut table)?,
            Suite::Autopsy => autopsy::run(&mut programs, &mut table)?,
            Suite::Orthogonality => orthogonality::run(&mut programs, &mut table)?,
            Suite::Serve => serve::run(&mut programs, &mut table)?,
            Suite::Balance => balance::run(&mut programs, &mut table)?,
        }
    }
    let folder = record.write(&programs, &table)?;
    println!("{}", table.markdown());
    let has = |suite| args.suites.contains(&suite);
    if programs.python.is_none() && args.suites.iter().any(|suite| suite.needs_python()) {
        println!(
            "no Python was given (--python or XGRAFT_BENCH_PYTHON): what needs a peer is missing"
        );
    }
    if programs.routers.is_none() && has(Suite::Balance) {
        println!(
            "no Python with vllm-router and sglang-router was given (--routers or XGRAFT_BENCH_ROUTERS): they are missing"
        );
    }
    if programs.llama.is_none() && has(Suite::Serve) {
        println!(
            "no Python with llama.cpp was given (--llama or XGRAFT_BENCH_LLAMA): what needs it is missing"
        );
    }
    if programs.quick {
        println!("this was a quick run: it tries the harness and measures nothing");
    } else {
        println!("{} numbers are not what they must be", table.missed());
    }
    println!("every sample is in {}", folder.display());
    Ok(())
}

/// What a developer typed, for the record.
fn command(suites: &[Suite], programs: &Programs) -> String {
    let names = suites.iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
    let python = if programs.python.is_some() {
        " --python PATH"
    } else {
        ""
    };
    let llama = programs.llama.as_ref().map_or("", |_| " --llama PATH");
    let routers = programs.routers.as_ref().map_or("", |_| " --routers PATH");
    let quick = if programs.quick { " --quick" } else { "" };
    format!(
        "cargo xtask bench {}{python}{llama}{routers}{quick}",
        names.join(" ")
    )
}
