//! Developer tasks, run as `cargo xtask <task>`.
//!
//! Each task is one file. The runner links no product crate, so that it builds in seconds: what needs product code is a
//! binary of `fixtures` or `benches`, or `xgraft` itself, which it builds and spawns.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the runner talks to the developer's terminal"
)]

mod bench;
mod ci;
mod fixtures;
mod kernels;
mod reproduce;
mod synth;
mod test;
mod tidy;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Developer tasks of the xgraft workspace.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Everything a change must pass: fmt, clippy, tests, docs, tidy.
    Ci(ci::Args),
    /// What cargo and clippy cannot check: layers, owners, unsafe list, ignored tests, paths, links, file sizes.
    Tidy,
    /// The tests of the whole workspace, with a summary that names the ignored ones.
    Test(test::Args),
    /// Benchmarks against peers, in one run.
    Bench(bench::Args),
    /// The committed test data: its digests, or its regeneration.
    Fixtures(fixtures::Args),
    /// Compiles every GPU kernel and looks at registers, spills and instructions; needs NVRTC, but no GPU.
    Kernels(kernels::Args),
    /// A synthetic pair of checkpoints at the true shapes of a large model.
    Synth(synth::Args),
    /// The pipeline of a recipe, step by step, to one report.
    Reproduce(reproduce::Args),
}

fn main() -> ExitCode {
    let outcome = workspace::shell().and_then(|sh| match Args::parse().task {
        Task::Ci(args) => ci::run(&sh, &args),
        Task::Tidy => tidy::run(&sh),
        Task::Test(args) => test::run(&sh, &args),
        Task::Bench(args) => bench::run(&sh, &args),
        Task::Fixtures(args) => fixtures::run(&sh, &args),
        Task::Kernels(args) => kernels::run(&sh, &args),
        Task::Synth(args) => synth::run(&sh, &args),
        Task::Reproduce(args) => reproduce::run(&sh, &args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
