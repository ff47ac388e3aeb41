//! Where our programs and the peers' are.

use super::sample::{Sample, Samples};
use super::{Finished, measure};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// The programs of one run, and the samples that they have given so far.
#[derive(Debug)]
pub struct Programs {
    /// The folder of our binaries.
    pub binaries: PathBuf,
    /// The folder of the peers' scripts.
    pub peers: PathBuf,
    /// A Python that has the peers; without it they are missing.
    pub python: Option<PathBuf>,
    /// A Python that has llama.cpp; without it its numbers are missing.
    pub llama: Option<PathBuf>,
    /// A Python that has vllm-router and sglang-router; without it they are missing.
    pub routers: Option<PathBuf>,
    /// A folder for data that is made for the run.
    pub scratch: PathBuf,
    /// Fewer repetitions and smaller sizes: to try the harness, not to measure.
    pub quick: bool,
    /// Everything measured so far.
    pub samples: Samples,
}

/// Whom a script runs.
#[derive(Clone, Copy, Debug)]
pub enum Whose {
    /// torch, NumPy, mergekit and compressed-tensors.
    Peers,
    /// llama.cpp.
    Llama,
}

impl Whose {
    /// The name in the samples.
    fn name(self) -> &'static str {
        match self {
            Self::Peers => "peer",
            Self::Llama => "llama.cpp",
        }
    }
}

impl Programs {
    /// How often everything is repeated, by turns.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        if self.quick { 1 } else { 3 }
    }

    /// Runs one of our binaries that print JSON lines, and keeps the lines as samples of `group`.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn ours<T: AsRef<OsStr>>(
        &mut self,
        group: &str,
        round: u32,
        binary: &str,
        arguments: &[T],
    ) -> Result<()> {
        let mut command = Command::new(self.binary(binary));
        command.args(arguments);
        self.lines("xgraft", group, round, &mut command)
    }

    /// Runs somebody else's script likewise, if its Python is there.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn theirs<T: AsRef<OsStr>>(
        &mut self,
        whose: Whose,
        group: &str,
        round: u32,
        script: &str,
        arguments: &[T],
    ) -> Result<()> {
        let Some(mut command) = self.script(whose, script) else {
            return Ok(());
        };
        command.args(arguments);
        self.lines(whose.name(), group, round, &mut command)
    }

    /// Runs `xgraft` as a whole process, and keeps its cost as a sample of `group` and `case`, with what `more` reads
    /// from what it printed, or from files.
    ///
    /// # Errors
    /// It fails.
    pub fn xgraft<T: AsRef<OsStr>>(
        &mut self,
        group: &str,
        round: u32,
        case: &str,
        arguments: &[T],
        more: impl FnOnce(&str) -> Result<Value>,
    ) -> Result<()> {
        let mut command = Command::new(self.binary("xgraft"));
        command.args(arguments);
        announce(&command);
        let Finished { cost, stdout } = measure(&mut command)?;
        let mut line = json!({
            "case": case,
            "cpu_s": [cost.cpu_s],
            "wall_s": [cost.wall_s],
            "peak_rss_mib": cost.peak_rss_mib,
        });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more(&stdout)?) {
            line.extend(more);
        }
        self.keep("xgraft", group, round, &command, line);
        Ok(())
    }

    /// Runs a command that prints one JSON line, has `more` add to it, and keeps it as a sample of `who`.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn line(
        &mut self,
        who: &str,
        group: &str,
        round: u32,
        command: &mut Command,
        more: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<()> {
        announce(command);
        let Finished { stdout, .. } = measure(command)?;
        let mut line = parsed(&stdout)?;
        more(&mut line)?;
        self.keep(who, group, round, command, line);
        Ok(())
    }

    /// Makes data that is not there yet: runs the command and does not measure it.
    ///
    /// # Errors
    /// It fails.
    pub fn make(&self, there: &Path, command: &mut Command) -> Result<()> {
        if !there.exists() {
            announce(command);
            measure(command).with_context(|| format!("cannot make {}", there.display()))?;
        }
        Ok(())
    }

    /// The path of one of our binaries.
    #[must_use]
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// A script of theirs, if its Python is there.
    #[must_use]
    pub fn script(&self, whose: Whose, name: &str) -> Option<Command> {
        let python = match whose {
            Whose::Peers => &self.python,
            Whose::Llama => &self.llama,
        };
        let mut command = Command::new(python.as_ref()?);
        command.arg(self.peers.join(name));
        Some(command)
    }

    fn lines(&mut self, who: &str, group: &str, round: u32, command: &mut Command) -> Result<()> {
        announce(command);
        let finished = measure(command)?;
        for line in finished
            .stdout
            .lines()
            .filter(|line| !line.trim().is_empty())
        {
            self.keep(who, group, round, command, parsed(line)?);
        }
        Ok(())
    }

    fn keep(&mut self, who: &str, group: &str, round: u32, command: &Command, line: Value) {
        self.samples.0.push(Sample {
            who: who.to_owned(),
            group: group.to_owned(),
            round,
            command: shown(command),
            line,
        });
    }
}

fn parsed(line: &str) -> Result<Value> {
    serde_json::from_str(line).with_context(|| format!("expected a JSON line, found {line:?}"))
}

#[expect(
    clippy::print_stderr,
    reason = "a run takes minutes: say what is going on"
)]
fn announce(command: &Command) {
    eprintln!("  $ {}", shown(command));
}

/// The command with the program's name only: paths of this machine do not belong in what is kept.
fn shown(command: &Command) -> String {
    let name = |text: &OsStr| {
        let path = Path::new(text);
        let short = path.is_absolute().then(|| path.file_name()).flatten();
        short.unwrap_or(text).to_string_lossy().into_owned()
    };
    let program = name(command.get_program());
    let arguments = command.get_args().map(name);
    std::iter::once(program)
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_kept_without_folders_of_the_machine() {
        let mut command = Command::new("/somewhere/bin/python");
        command
            .arg("/somewhere/peers/torch_cases.py")
            .arg("--rank=8")
            .arg("fixtures/x");
        assert_eq!(shown(&command), "python torch_cases.py --rank=8 fixtures/x");
    }
}
