//! `cargo xtask kernels`: the gate of the GPU's kernels on a machine without one.

use anyhow::Result;
use xshell::{Shell, cmd};

/// How to check.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    /// Fail where there is no NVRTC to compile with, in place of saying that compilation was skipped.
    #[arg(long)]
    require: bool,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let require = args.require.then_some("--require");
    cmd!(
        sh,
        "cargo run --quiet --locked --package xgraft-fp8-gemm --example kernels -- {require...}"
    )
    .run()?;
    Ok(())
}
