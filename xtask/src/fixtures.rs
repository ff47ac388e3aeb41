//! `cargo xtask fixtures`: the golden data, made again by the reference implementations.

use crate::workspace;
use anyhow::{Context, Result};
use std::path::PathBuf;
use xshell::{Shell, cmd};

/// Write or compare.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Compare with what is committed, and change nothing.
    #[arg(long)]
    check: bool,
    /// A Python with `fixtures/requirements.txt` installed.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let python = if args.python.components().count() > 1 {
        workspace::from_callers_folder(&args.python)?
    } else {
        args.python.clone()
    };
    let check = args.check.then_some("--check");
    cmd!(sh, "{python} fixtures/generate.py {check...}")
        .run()
        .context("the reference implementations are needed: pip install -r fixtures/requirements.txt, and pass --python")
}
