//! What a run on a GPU brought back.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// One implementation of one product, with every sample.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sample {
    pub(super) layer: String,
    pub(super) m: u32,
    pub(super) n: u32,
    pub(super) k: u32,
    pub(super) rank: u32,
    #[serde(rename = "impl")]
    pub(super) name: String,
    pub(super) config: Option<String>,
    pub(super) samples_us: Vec<f64>,
    pub(super) error: Option<String>,
    #[serde(default)]
    mock: bool,
}

/// One case of the check.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Check {
    pub(super) case: String,
    /// None where nothing was run.
    pub(super) ok: Option<bool>,
    /// Near, and steady, though maybe not to the bit.
    #[serde(default)]
    pub(super) usable: Option<bool>,
    #[serde(default)]
    pub(super) compared: Option<u64>,
    /// How often it ran again, and how often that gave other bits.
    #[serde(default)]
    pub(super) repeats: u64,
    #[serde(default)]
    pub(super) unsteady: u64,
}

/// One kernel that was loaded.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Load {
    pub(super) kernel: String,
    /// `shipped`, `compiled` or `cache`.
    pub(super) origin: Option<String>,
    /// None where nothing was run.
    pub(super) ms: Option<f64>,
}

/// One tool of compute-sanitizer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sanitized {
    pub(super) tool: String,
    /// None where it was not run.
    pub(super) ok: Option<bool>,
    pub(super) summary: Option<String>,
    pub(super) error: Option<String>,
}

/// A candidate that was timed.
#[derive(Deserialize)]
struct Tuned {
    layer: String,
    m: u32,
    /// Of an adapter in the product, 0 for none.
    #[serde(default)]
    rank: u32,
    samples_us: Vec<f64>,
}

#[derive(Default, Deserialize)]
struct LeftOut {
    left_out: Vec<String>,
}

/// The folder of a run.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) machine: Value,
    pub(super) samples: Vec<Sample>,
    pub(super) checks: Vec<Check>,
    pub(super) loads: Vec<Load>,
    /// Layers and numbers of tokens whose kernel, without an adapter, was chosen by measuring.
    pub(super) tuned: HashSet<(String, u32)>,
    pub(super) sanitized: Vec<Sanitized>,
    /// What there was no time for.
    pub(super) left_out: Vec<String>,
    /// Nothing in it was measured.
    pub(super) mock: bool,
}

/// What the driver writes.
pub(super) const FILES: [&str; 9] = [
    "machine.json",
    "load.jsonl",
    "check.jsonl",
    "check.json",
    "sanitize.jsonl",
    "tune.jsonl",
    "samples.jsonl",
    "retried.jsonl",
    "left_out.json",
];

impl Folder {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = path.join(FILES[0]);
        let text = fs::read(&name).with_context(|| {
            format!(
                "cannot read {}: a folder that the driver wrote with --out is expected",
                name.display()
            )
        })?;
        let machine: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{}: no machine", name.display()))?;
        let samples: Vec<Sample> = lines(&path.join("samples.jsonl"))?;
        let tuned: Vec<Tuned> = lines(&path.join("tune.jsonl"))?;
        let left_out = fs::read(path.join("left_out.json")).unwrap_or_default();
        let left_out: LeftOut = serde_json::from_slice(&left_out).unwrap_or_default();
        let mock = machine["mock"] != Value::Bool(false) || samples.iter().any(|line| line.mock);
        Ok(Self {
            machine,
            samples,
            checks: lines(&path.join("check.jsonl"))?,
            loads: lines(&path.join("load.jsonl"))?,
            tuned: chosen(tuned),
            sanitized: lines(&path.join("sanitize.jsonl"))?,
            left_out: left_out.left_out,
            mock,
            path: path.to_owned(),
        })
    }

    /// Where a step of the driver wrote nothing, nothing is known.
    pub(super) fn median(&self, layer: &str, m: u32, name: &str, rank: u32) -> Option<f64> {
        let mut samples = self.samples.iter();
        let found = samples.find(|sample| {
            (
                sample.layer.as_str(),
                sample.m,
                sample.name.as_str(),
                sample.rank,
            ) == (layer, m, name, rank)
        })?;
        found.median()
    }
}

impl Sample {
    /// Ordered from least to most.
    pub(super) fn ordered(&self) -> Vec<f64> {
        let mut ordered = self.samples_us.clone();
        ordered.sort_by(f64::total_cmp);
        ordered
    }

    /// None of one that failed, also where it has samples.
    pub(super) fn median(&self) -> Option<f64> {
        if self.error.is_some() {
            return None;
        }
        let ordered = self.ordered();
        let last = ordered.len().checked_sub(1)?;
        Some(0.5 * (ordered[last / 2] + ordered[last.div_ceil(2)]))
    }

    /// Its name, with the rank of an adapter.
    pub(super) fn arm(&self) -> String {
        match self.rank {
            0 => self.name.clone(),
            rank => format!("{} r{rank}", self.name),
        }
    }
}

fn lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(Vec::new());
    };
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), at + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

/// Measured choices are those without an adapter.
fn chosen(tuned: Vec<Tuned>) -> HashSet<(String, u32)> {
    let tuned = tuned.into_iter();
    let tuned = tuned.filter(|tuned| tuned.rank == 0 && !tuned.samples_us.is_empty());
    tuned.map(|tuned| (tuned.layer, tuned.m)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_was_tuned_without_an_adapter_is_a_measured_choice() {
        let row = |m: u32, rank: u32, samples: &[f64]| json!({"layer": "o", "m": m, "rank": rank, "samples_us": samples});
        let rows = json!([row(1, 0, &[1.0]), row(8, 64, &[1.0]), row(16, 0, &[])]);
        let rows = serde_json::from_value(rows).expect("rows");
        assert_eq!(chosen(rows), [("o".to_owned(), 1)].into());
    }
}
