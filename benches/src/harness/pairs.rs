//! Pairs of checkpoints that more than one suite reads.

use super::Programs;
use anyhow::Result;
use std::{path::PathBuf, process::Command};

/// One layer of Qwen3-32B with a small vocabulary; the tiny pair in a quick run.
pub(super) fn layer_of_qwen(programs: &Programs) -> Result<PathBuf> {
    let (name, like) = if programs.quick {
        ("tiny-pair-synth", "tiny")
    } else {
        ("qwen3-32b-1", "qwen3-32b")
    };
    let pair = programs.scratch.join(name);
    let mut make = Command::new(programs.binary("synth"));
    make.args(["--like", like, "--layers", "1", "--vocab", "1024", "--out"]);
    programs.make(&pair, make.arg(&pair))?;
    Ok(pair)
}
