//! The annotation of a run by a scripted judge, in a copy of the run: what it says stays out of the tables of arms.

use super::ask;
use crate::reproduce::steps::Step;
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// What the judge is called in every file.
const JUDGE: &str = "scripted-judge";

/// Copies the answers of the first input, and has the scripted judge read what the plain rules leave. What it said before is kept.
pub(in super::super) fn run(binary: &Path, step: &Step, tool: &str) -> Result<()> {
    let out = ask::begin(step, tool)?;
    fs::create_dir_all(&out)?;
    let run = step.inputs.first().context("no run to annotate")?;
    let answers = crate::workspace::root().join(run).join(ask::ANSWERS);
    fs::copy(&answers, out.join(ask::ANSWERS))
        .with_context(|| format!("cannot copy {}", answers.display()))?;
    let judge = Judge::start(&binary.with_file_name("judge"))?;
    let log = out.with_file_name(format!("{}.stdout.txt", step.name));
    let status = Command::new(binary)
        .args(&step.arguments)
        .arg(&out)
        .args(["--judge", &judge.url, "--judge-model", JUDGE])
        .args(["--per-minute", "60000"])
        .stdout(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?)
        .status()
        .context("cannot start xgraft")?;
    ensure!(
        status.success(),
        "step {} failed ({status})\nhint: judgements are kept; run the same `cargo xtask reproduce` again to go on from there",
        step.name
    );
    Ok(())
}

/// A running judge; ended when dropped.
struct Judge {
    child: Child,
    url: String,
}

impl Judge {
    fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut url = String::new();
        if let Some(pipe) = child.stdout.take() {
            BufReader::new(pipe).read_line(&mut url)?;
        }
        let url = url.trim().to_owned();
        let judge = Self { child, url };
        ensure!(!judge.url.is_empty(), "the scripted judge has no address");
        Ok(judge)
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // It may have ended; nothing is left to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
