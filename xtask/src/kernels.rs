//! `cargo xtask kernels`: the gate of the GPU's kernels on a machine without one.

use crate::workspace;
use anyhow::Result;
use std::path::PathBuf;
use xshell::{Shell, cmd};

/// How to check.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    /// Fail where there is no NVRTC to compile with, in place of saying that compilation was skipped; run the tests that need one too.
    #[arg(long)]
    require: bool,
    /// Compile every image into this folder with a manifest of digests, for machines without NVRTC, in place of checking.
    #[arg(long, value_name = "FOLDER", conflicts_with = "require")]
    ship: Option<PathBuf>,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let mut flags: Vec<PathBuf> = Vec::new();
    if args.require {
        flags.push("--require".into());
    }
    if let Some(folder) = &args.ship {
        flags.extend(["--ship".into(), workspace::from_callers_folder(folder)?]);
    }
    cmd!(
        sh,
        "cargo run --quiet --locked --package xgraft-fp8-gemm --example kernels -- {flags...}"
    )
    .run()?;
    if args.require {
        cmd!(
            sh,
            "cargo test --locked --package xgraft-cuda-jit --package xgraft-fp8-gemm --test it -- --ignored compile::"
        )
        .run()?;
    }
    Ok(())
}
