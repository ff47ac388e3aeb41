//! Files of counts: the published collection, and the statistics of the published harness.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Arm, Claim, Infrastructure, Scoring, Size, StatsError, Tally};

/// Arms, and what is claimed of them.
#[derive(Debug, Default)]
pub struct Collection {
    /// The arms, in the order of the file.
    pub arms: Vec<Arm>,
    /// The arm that the others are compared with, where the file says so.
    pub reference: Option<String>,
    /// What the source claims.
    pub claims: Vec<Claim>,
}

#[derive(Deserialize)]
struct File {
    reference: Option<String>,
    #[serde(default = "as_published")]
    infrastructure: Infrastructure,
    #[serde(default = "by_judge")]
    scoring: Scoring,
    arms: serde_json::Map<String, Value>,
    #[serde(default)]
    claims: Vec<Claim>,
}

fn as_published() -> Infrastructure {
    Infrastructure::Wrong
}

fn by_judge() -> Scoring {
    Scoring::Judged
}

#[derive(Deserialize)]
struct FileArm {
    label: Option<String>,
    #[serde(alias = "total_execution_time_s", alias = "total_execution_time")]
    seconds: Option<f64>,
    size_gb: Option<Size>,
    #[serde(alias = "by_task")]
    tasks: BTreeMap<String, FileTask>,
}

/// The names of the published harness are understood too: there the kinds of failures may lie in `incorrect`.
#[derive(Deserialize)]
struct FileTask {
    total: u64,
    #[serde(alias = "correct")]
    right: u64,
    #[serde(flatten)]
    kinds: Kinds,
    #[serde(default)]
    incorrect: Option<Kinds>,
}

#[derive(Deserialize)]
struct Kinds {
    #[serde(alias = "wrong_answers")]
    wrong: Option<u64>,
    #[serde(alias = "max_token_error")]
    overflow: Option<u64>,
    #[serde(alias = "proxy_error")]
    infrastructure: Option<u64>,
    #[serde(default)]
    unparsed: u64,
    unlabelled: Option<u64>,
}

/// Reads a JSON file of one arm or of several.
///
/// # Errors
/// The file cannot be read, is none of these files, or has parts that do not add up.
pub fn read_counts(path: &Path) -> Result<Collection, StatsError> {
    let text = std::fs::read(path).map_err(|source| StatsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let expected = "a JSON object with `arms` or `by_task`";
    let value: Value = parse(path, expected, serde_json::from_slice(&text))?;
    if value.get("arms").is_some() {
        several(path, value)
    } else if value.get("by_task").is_some() {
        let rules = (as_published(), by_judge());
        let arm = arm(path, &name_of(path), rules, value)?;
        Ok(Collection {
            arms: vec![arm],
            ..Collection::default()
        })
    } else {
        let fields = value
            .as_object()
            .map(|o| o.keys().cloned().collect::<Vec<_>>());
        Err(StatsError::Unknown {
            path: path.to_owned(),
            found: fields.map_or_else(|| "no object".to_owned(), |keys| keys.join(", ")),
        })
    }
}

fn several(path: &Path, value: Value) -> Result<Collection, StatsError> {
    let expected = "arms with `tasks`, each with `total` and `right`, and claims";
    let file: File = parse(path, expected, serde_json::from_value(value))?;
    let rules = (file.infrastructure, file.scoring);
    let arms = file.arms.into_iter();
    Ok(Collection {
        arms: arms
            .map(|(name, value)| arm(path, &name, rules, value))
            .collect::<Result<_, _>>()?,
        reference: file.reference,
        claims: file.claims,
    })
}

fn arm(
    path: &Path,
    name: &str,
    (infrastructure, scoring): (Infrastructure, Scoring),
    value: Value,
) -> Result<Arm, StatsError> {
    let expected = "an arm with `tasks` or `by_task`, each with `total` and `right` or `correct`";
    let file: FileArm = parse(path, expected, serde_json::from_value(value))?;
    let tasks = file.tasks.into_iter().map(|(task, counts)| {
        let at = format!("{}: arm {name}, task {task}", path.display());
        Ok((task, tally(&at, &counts)?))
    });
    Ok(Arm {
        label: file.label.unwrap_or_else(|| name.to_owned()),
        infrastructure,
        scoring,
        tasks: tasks.collect::<Result<_, StatsError>>()?,
        seconds: file.seconds,
        size: file.size_gb,
        ..Arm::new(name)
    })
}

fn tally(at: &str, task: &FileTask) -> Result<Tally, StatsError> {
    let kinds = task.incorrect.as_ref().unwrap_or(&task.kinds);
    let mut tally = Tally {
        right: task.right,
        wrong: kinds.wrong.unwrap_or(0),
        unparsed: kinds.unparsed,
        overflow: kinds.overflow.unwrap_or(0),
        infrastructure: kinds.infrastructure.unwrap_or(0),
        unlabelled: kinds.unlabelled.unwrap_or(0),
    };
    let found = tally.asked();
    if found > task.total || (kinds.unlabelled.is_some() && found < task.total) {
        let expected = task.total;
        return Err(StatsError::Sum {
            at: at.to_owned(),
            expected,
            found,
        });
    }
    // The published harness drops rows that no rule of its annotation took.
    tally.unlabelled += task.total - found;
    Ok(tally)
}

/// `Final_<label>_statistics.json` is how the published plots name them.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.strip_prefix("Final_").unwrap_or(&stem);
    name.strip_suffix("_statistics").unwrap_or(name).to_owned()
}

fn parse<T>(
    path: &Path,
    expected: &'static str,
    result: serde_json::Result<T>,
) -> Result<T, StatsError> {
    result.map_err(|source| StatsError::Parse {
        path: path.to_owned(),
        expected,
        source,
    })
}
