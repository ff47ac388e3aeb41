//! Questions to what is served; and the same while processes are killed.

use super::Fleet;
use crate::{
    reproduce::{
        stamp::{self, Stamp},
        steps::Step,
    },
    workspace,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

pub(super) const ANSWERS: &str = "answers.jsonl";

/// Asks every question that has no answer yet of the same configuration.
pub(in super::super) fn ask(binary: &Path, step: &Step, tool: &str, fleet: &Fleet) -> Result<()> {
    let out = begin(step, tool)?;
    finish(binary, step, &out, fleet)?;
    fleet.write_cost(&step.arguments, &out)
}

/// The same from the beginning: a server is killed, then the client, which starts again. The answers must be the bytes of the
/// unbroken run, which is the last input.
pub(in super::super) fn ask_and_kill(
    binary: &Path,
    step: &Step,
    tool: &str,
    fleet: &Fleet,
) -> Result<()> {
    let unbroken = step
        .inputs
        .last()
        .context("no unbroken run to compare with")?;
    let unbroken = fs::read_to_string(workspace::root().join(unbroken).join(ANSWERS))?;
    let questions = unbroken.lines().count();
    let out = begin(step, tool)?;
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let mut client = command(binary, step, &out, fleet)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start xgraft")?;
    let mut until = |share: usize| -> Result<usize> {
        loop {
            let answered = answered(&out);
            if 100 * answered >= share * questions {
                return Ok(answered);
            }
            if let Some(status) = client.try_wait()? {
                bail!("the client ended with {status} after {answered} of {questions} answers");
            }
            thread::sleep(Duration::from_millis(10));
        }
    };
    let first = until(20)?;
    let server = fleet.kill_a_server()?;
    let second = until(50)?;
    client.kill().context("cannot kill the client")?;
    client.wait()?;
    let mut said = format!(
        "killed a server (process {server}) after {first} of {questions} answers, and the client after {second}; started it again\n"
    );
    println!("  {}", said.trim_end());
    finish(binary, step, &out, fleet)?;
    let answers = fs::read_to_string(out.join(ANSWERS))?;
    ensure!(
        answers == unbroken,
        "{}: its answers differ from those of the run without kills",
        out.display()
    );
    let all = format!("{questions} answers, each once: the bytes of the run without kills");
    println!("  {all}");
    said += &all;
    let file = out.with_file_name(format!("{}.stdout.txt", step.name));
    fs::write(&file, said).with_context(|| format!("cannot write {}", file.display()))
}

/// The folder of the run; what another configuration left there is gone.
pub(super) fn begin(step: &Step, tool: &str) -> Result<PathBuf> {
    let out = workspace::root().join(&step.out);
    if !stamp::is_begun(step, tool) {
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
        }
        Stamp::begun(step, tool)?.write(step)?;
    }
    Ok(out)
}

fn finish(binary: &Path, step: &Step, out: &Path, fleet: &Fleet) -> Result<()> {
    let status = command(binary, step, out, fleet)
        .status()
        .context("cannot start xgraft")?;
    ensure!(
        status.success(),
        "step {} failed ({status})\nhint: answers are kept; run the same `cargo xtask reproduce` again to go on from there",
        step.name
    );
    Ok(())
}

fn command(binary: &Path, step: &Step, out: &Path, fleet: &Fleet) -> Command {
    let mut command = Command::new(binary);
    command
        .args(&step.arguments)
        .args(["--endpoint", &fleet.endpoint(), "--out"])
        .arg(out)
        .current_dir(workspace::root())
        .stdout(Stdio::null());
    command
}

/// Answers in the logs so far.
fn answered(out: &Path) -> usize {
    let logs = fs::read_dir(out.join("events")).into_iter().flatten();
    logs.filter_map(|log| fs::read_to_string(log.ok()?.path()).ok())
        .map(|log| log.matches("\"event\":\"answer\"").count())
        .sum()
}
