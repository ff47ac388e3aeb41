//! `cargo xtask ci`: everything a change must pass. CI runs exactly this.

use crate::{bench::gpu, kernels, test, tidy};
use anyhow::Result;
use xshell::{Shell, cmd};

/// How to check.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Leave out the tests, where they were run just before.
    #[arg(long)]
    no_test: bool,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    cmd!(sh, "cargo fmt --all --check").run()?;
    cmd!(
        sh,
        "cargo clippy --workspace --all-targets --locked -- -D warnings"
    )
    .run()?;
    if !args.no_test {
        test::run(sh, &test::Args::default())?;
    }
    {
        let _env = sh.push_env("RUSTDOCFLAGS", "-D warnings");
        cmd!(sh, "cargo doc --workspace --no-deps --locked").run()?;
    }
    kernels::run(sh, &kernels::Args::default())?;
    if cmd!(sh, "python3 --version")
        .quiet()
        .ignore_stdout()
        .run()
        .is_ok()
    {
        gpu::test_driver(sh)?;
    } else {
        println!("SKIPPED the tests of the GPU benchmarks' driver: no python3");
    }
    tidy::run(sh)?;
    println!("ci: all green");
    Ok(())
}
