//! When a step may be skipped: tool, arguments and inputs are those of the last time, and its manifest is untouched.

use super::{
    headers,
    steps::{Kind, Step},
};
use crate::workspace;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Everything that decides what a step makes. It lies beside the step's folder: `extract-r32.stamp.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The digest of the tool's binary.
    tool: String,
    arguments: Vec<String>,
    inputs: Vec<InputFile>,
    /// The digest of what the step made; empty while it is not finished.
    manifest: String,
}

/// A file by what is cheap to know of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct InputFile {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
    /// The digest of a safetensors header.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
}

impl Stamp {
    /// The stamp of a step whose folder is there.
    pub(super) fn of(step: &Step, tool: &str) -> Result<Self> {
        let made = workspace::root().join(&step.out).join(product(step.kind));
        let bytes = fs::read(&made).with_context(|| format!("cannot read {}", made.display()))?;
        let begun = Self::begun(step, tool)?;
        let manifest = digest(&bytes);
        Ok(Self { manifest, ..begun })
    }

    /// The stamp of a step that begins.
    pub(super) fn begun(step: &Step, tool: &str) -> Result<Self> {
        let mut inputs = Vec::new();
        for path in &step.inputs {
            add(path, &mut inputs)?;
        }
        Ok(Self {
            tool: tool.to_owned(),
            arguments: step.arguments.clone(),
            inputs,
            manifest: String::new(),
        })
    }

    pub(super) fn write(&self, step: &Step) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let path = path_of(step);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Whether the step's folder is what running it again would make.
pub(super) fn holds(step: &Step, tool: &str) -> bool {
    let last = last(step);
    last.is_some() && Stamp::of(step, tool).ok() == last
}

/// Whether the step's folder was begun by the same step, and never finished.
pub(super) fn is_begun(step: &Step, tool: &str) -> bool {
    let last = last(step);
    last.is_some() && Stamp::begun(step, tool).ok() == last
}

fn last(step: &Step) -> Option<Stamp> {
    let text = fs::read(path_of(step)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The file that is there when a step is done.
fn product(kind: Kind) -> &'static str {
    match kind {
        Kind::Ask | Kind::AskAndKill => "answers.jsonl",
        Kind::MustFail => "refusal.txt",
        Kind::Judge => "annotation/labels.jsonl",
        _ => "manifest.json",
    }
}

/// The digest of the tool's binary, which stands for its version.
pub(super) fn tool(binary: &Path) -> Result<String> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    Ok(digest(&bytes))
}

fn path_of(step: &Step) -> PathBuf {
    let name = format!("{}.stamp.json", step.name);
    workspace::root().join(&step.out).with_file_name(name)
}

/// A file, or all files of a folder.
fn add(path: &Path, files: &mut Vec<InputFile>) -> Result<()> {
    let full = workspace::root().join(path);
    if full.is_file() {
        return add_file(path, files);
    }
    let list = fs::read_dir(&full).with_context(|| format!("cannot list {}", full.display()))?;
    let mut names = list
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        if full.join(&name).is_file() {
            add_file(&path.join(name), files)?;
        }
    }
    Ok(())
}

fn add_file(path: &Path, files: &mut Vec<InputFile>) -> Result<()> {
    let full = workspace::root().join(path);
    let known = full
        .metadata()
        .with_context(|| format!("cannot read {}", full.display()))?;
    let is_weights = full
        .extension()
        .is_some_and(|ending| ending == "safetensors");
    let header = is_weights.then(|| headers::read(&full)).transpose()?;
    files.push(InputFile {
        path: path.to_owned(),
        bytes: known.len(),
        modified: known.modified()?.duration_since(UNIX_EPOCH)?.as_nanos(),
        header: header.map(|bytes| digest(&bytes)),
    });
    Ok(())
}

/// FNV-1a, 64 bits: it tells changes, not attackers.
fn digest(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step whose input and output lie in a folder of their own below `target`.
    fn made_up(name: &str) -> Step {
        let folder = workspace::root().join("target/xtask-tests").join(name);
        let (input, out) = (folder.join("input"), folder.join("step"));
        for dir in [&input, &out] {
            fs::create_dir_all(dir).expect("creates");
        }
        fs::write(input.join("config.json"), "{}").expect("writes");
        fs::write(out.join("manifest.json"), "{}").expect("writes");
        Step {
            name: "step".to_owned(),
            kind: Kind::Report,
            arguments: vec!["report".to_owned()],
            inputs: vec![input],
            out,
            serving: None,
        }
    }

    #[test]
    fn a_step_is_skipped_until_something_changes() {
        let step = made_up("stamp");
        let _ = fs::remove_file(path_of(&step));
        assert!(!holds(&step, "1"), "nothing is known yet");
        Stamp::of(&step, "1")
            .and_then(|stamp| stamp.write(&step))
            .expect("writes");
        assert!(holds(&step, "1"));
        assert!(!holds(&step, "2"), "another tool");
        let mut other = step.clone();
        other.arguments.push("--exact".to_owned());
        assert!(!holds(&other, "1"), "other arguments");
        fs::write(step.inputs[0].join("config.json"), "{ }").expect("writes");
        assert!(!holds(&step, "1"), "another input");
    }

    #[test]
    fn a_step_whose_folder_is_gone_is_not_skipped() {
        let step = made_up("gone");
        Stamp::of(&step, "1")
            .and_then(|stamp| stamp.write(&step))
            .expect("writes");
        fs::remove_file(step.out.join("manifest.json")).expect("removes");
        assert!(!holds(&step, "1"));
    }
}
