//! The directories that a report is made of.

use crate::{Error, Result};
use std::path::{Path, PathBuf};
use xgraft_results::{Finding, Manifest, Record, Row, jsonl};

/// An output directory of some verb, and what the report calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What the report calls it.
    pub label: String,
    /// The directory with `rows.jsonl`, `findings.jsonl`, `manifest.json`; each of them may be absent.
    pub dir: PathBuf,
    /// Only what belongs to no module is read.
    pub totals: bool,
}

impl Source {
    /// Reads `LABEL=DIR` or `DIR`, whose label is the directory's name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((label, dir)) if !label.is_empty() && !label.contains('/') => Self {
                label: label.to_owned(),
                dir: dir.into(),
                totals: false,
            },
            _ => Self {
                label: dir_name(Path::new(text)),
                dir: text.into(),
                totals: false,
            },
        }
    }

    /// The same source, of which only the totals over all modules are read: for many arms beside each other.
    #[must_use]
    pub fn totals(mut self) -> Self {
        self.totals = true;
        self
    }
}

fn dir_name(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or(dir.as_os_str());
    name.to_string_lossy().into_owned()
}

/// What one source holds.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) label: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) manifest: Option<Manifest>,
}

/// Everything that a report is made of.
#[derive(Clone, Debug)]
pub(crate) struct Inputs(pub(crate) Vec<Input>);

impl Inputs {
    pub(crate) fn read(sources: &[Source]) -> Result<Self> {
        sources.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// The rows of one metric that belong to a module, each with the name of its arm.
    ///
    /// An arm is what the row says; where two sources say the same, or a row says nothing, it is the source's label,
    /// without the verb that made it: `verify-r8` becomes `r8`. A source with several arms gives both, as `r8: q`.
    pub(crate) fn by_module(&self, metric: &str) -> Vec<(String, &Row)> {
        let ambiguous = (1..self.0.len()).any(|i| {
            let (earlier, this) = (&self.0[..i], &self.0[i]);
            earlier.iter().any(|input| this.shares_arm(input, metric))
        });
        let named = |input: &Input, row: &Row| match &row.arm {
            Some(arm) if !ambiguous => arm.clone(),
            Some(arm) if input.several_arms() => format!("{}: {arm}", input.short_label()),
            _ => input.short_label().to_owned(),
        };
        let mut rows = Vec::new();
        for input in &self.0 {
            rows.extend(input.of_modules(metric).map(|row| (named(input, row), row)));
        }
        rows
    }
}

impl Input {
    /// The label without the verb in front.
    fn short_label(&self) -> &str {
        let verb = self.manifest.as_ref().map(|manifest| &manifest.verb);
        let rest = verb.and_then(|verb| self.label.strip_prefix(verb.as_str())?.strip_prefix('-'));
        rest.unwrap_or(&self.label)
    }

    /// The value of a metric over all modules.
    pub(crate) fn total(&self, metric: &str) -> Option<f64> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.metric == metric && row.module.is_none())?;
        Some(row.value)
    }

    fn several_arms(&self) -> bool {
        let mut arms = self.rows.iter().filter_map(|row| row.arm.as_deref());
        let first = arms.next();
        arms.any(|arm| Some(arm) != first)
    }

    fn of_modules<'a, 'm>(
        &'a self,
        metric: &'m str,
    ) -> impl Iterator<Item = &'a Row> + use<'a, 'm> {
        let rows = self.rows.iter();
        rows.filter(move |row| row.metric == metric && row.module.is_some())
    }

    fn shares_arm(&self, other: &Self, metric: &str) -> bool {
        let mut mine = self.of_modules(metric).map(|row| &row.arm);
        mine.any(|arm| other.of_modules(metric).any(|row| &row.arm == arm))
    }
}

fn read(source: &Source) -> Result<Input> {
    let failed = |cause| Error::Records {
        dir: source.dir.clone(),
        source: cause,
    };
    let manifest = source.dir.join(Manifest::FILE);
    let manifest = manifest
        .is_file()
        .then(|| Manifest::read(&manifest).map_err(failed))
        .transpose()?;
    let rows = optional(&source.dir.join("rows.jsonl")).map_err(failed)?;
    let findings = optional(&source.dir.join("findings.jsonl")).map_err(failed)?;
    if manifest.is_none() && rows.is_none() && findings.is_none() {
        let dir = source.dir.clone();
        return Err(Error::NothingToRead { dir });
    }
    let mut input = Input {
        label: source.label.clone(),
        rows: rows.unwrap_or_default(),
        findings: findings.unwrap_or_default(),
        manifest,
    };
    if source.totals {
        input.rows.retain(|row| row.module.is_none());
        input.findings.clear();
    }
    Ok(input)
}

fn optional<T: Record>(path: &Path) -> xgraft_results::Result<Option<Vec<T>>> {
    path.is_file().then(|| jsonl::read_file(path)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(label: &str, arm: Option<&str>) -> Input {
        let mut row = Row::new("m", 1.0).module("a");
        row.arm = arm.map(str::to_owned);
        Input {
            label: label.to_owned(),
            rows: vec![row, Row::new("m", 2.0)],
            findings: Vec::new(),
            manifest: None,
        }
    }

    fn arms(inputs: Vec<Input>) -> Vec<String> {
        let inputs = Inputs(inputs);
        inputs
            .by_module("m")
            .into_iter()
            .map(|(arm, _)| arm)
            .collect()
    }

    #[test]
    fn a_source_has_a_label_or_the_name_of_its_directory() {
        assert_eq!(Source::parse("r32=out/a").label, "r32");
        assert_eq!(Source::parse("out/a/").label, "a");
        assert_eq!(Source::parse("out/x=1").dir, Path::new("out/x=1"));
    }

    #[test]
    fn arms_are_named_by_rows_unless_two_sources_say_the_same() {
        assert_eq!(
            arms(vec![input("x", Some("r8")), input("y", Some("r16"))]),
            ["r8", "r16"]
        );
        assert_eq!(
            arms(vec![input("x", Some("r8")), input("y", Some("r8"))]),
            ["x", "y"]
        );
        assert_eq!(arms(vec![input("x", None)]), ["x"]);
    }

    #[test]
    fn two_sources_of_several_arms_keep_them_apart() {
        let two = |label| {
            let mut input = input(label, Some("q"));
            input.rows.push(Row::new("m", 3.0).module("a").arm("p"));
            input
        };
        assert_eq!(
            arms(vec![two("x"), two("y")]),
            ["x: q", "x: p", "y: q", "y: p"]
        );
    }
}
