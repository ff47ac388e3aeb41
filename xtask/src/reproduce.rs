//! `cargo xtask reproduce`.

use anyhow::{Result, bail};
use xshell::Shell;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

pub(crate) fn run(_sh: &Shell, _args: &Args) -> Result<()> {
    bail!("not written yet")
}
