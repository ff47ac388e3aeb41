//! What `xgraft` has to refuse.

use crate::{reproduce::steps::Step, workspace};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A server that begins to serve does not end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the step, and keeps what it said when it failed.
///
/// # Errors
/// It ends well, or not at all.
pub(in super::super) fn run(binary: &Path, step: &Step) -> Result<()> {
    let out = workspace::root().join(&step.out);
    fs::create_dir_all(&out)?;
    let mut child = Command::new(binary)
        .args(&step.arguments)
        .current_dir(workspace::root())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start xgraft")?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut said)?;
    }
    match status {
        Some(status) if !status.success() => Ok(fs::write(out.join("refusal.txt"), said)?),
        _ => bail!(
            "step {}: expected a refusal, and there was none\n{said}",
            step.name
        ),
    }
}
