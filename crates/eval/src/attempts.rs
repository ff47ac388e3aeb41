//! Finished attempts, from a run's log of events or from a file of trajectories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xgraft_dataset::{Class, Error, Object, Reader, Record, Result, Trajectory};

/// The folder of a run that has the log of each process.
const EVENTS: &str = "events";
/// All finished attempts of a run that has ended.
const ANSWERS: &str = "answers.jsonl";

/// Whether conversations are kept, which may be large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Keep them.
    Keep,
    /// Leave them out.
    Drop,
}

/// An attempt and where it stands.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// File and line.
    pub at: String,
    /// The attempt.
    pub trajectory: Trajectory,
}

/// Reads the attempts of a run's folder or of a file.
///
/// Of several answers to one question in the log of a run, that of the least generation counts, and a failure of the endpoint
/// only where there is no answer; a half last line of a log is left out, for its writer was killed or is still writing. In a file of trajectories it is an error.
///
/// # Errors
/// A file cannot be read, has a row that is none, or there is no attempt.
pub fn read(path: &Path, text: Text) -> Result<Vec<Attempt>> {
    let events = path.join(EVENTS);
    let attempts = if events.is_dir() {
        from_events(&events, text)?
    } else if path.is_dir() {
        from_rows(&path.join(ANSWERS), text)?
    } else {
        from_rows(path, text)?
    };
    if attempts.is_empty() {
        return Err(Error::Empty {
            path: path.to_owned(),
        });
    }
    Ok(attempts)
}

fn from_rows(path: &Path, text: Text) -> Result<Vec<Attempt>> {
    let mut reader = Reader::<Trajectory>::open(path)?;
    let mut attempts = Vec::new();
    while let Some(row) = reader.next() {
        attempts.push(attempt(reader.at(), row?, text));
    }
    Ok(attempts)
}

/// An event of a run; only how attempts ended is of interest here.
struct Event(Option<(u64, Trajectory)>);

impl Record for Event {
    const SCHEMA: &'static str = "xgraft.event/1";
    const NEEDS_SCHEMA: bool = true;

    fn from_object(object: &mut Object) -> Result<Self> {
        let event = object.text("event")?;
        if !["answer", "failed"].contains(&event.as_str()) {
            return Ok(Self(None));
        }
        let generation = object.number("generation")?;
        let trajectory = Trajectory::from_object(&mut object.row("trajectory")?)?;
        Ok(Self(Some((generation, trajectory))))
    }
}

fn from_events(folder: &Path, text: Text) -> Result<Vec<Attempt>> {
    let mut first: BTreeMap<_, ((bool, u64), Attempt)> = BTreeMap::new();
    for path in logs(folder)? {
        let mut reader = Reader::<Event>::open(&path)?.without_torn_line();
        while let Some(event) = reader.next() {
            let Some((generation, row)) = event?.0 else {
                continue;
            };
            let key = (row.arm.clone(), row.run.clone(), row.question.clone());
            let rank = (row.class == Class::Infrastructure, generation);
            let known = first.get(&key).is_some_and(|(least, _)| *least <= rank);
            if !known {
                first.insert(key, (rank, attempt(reader.at(), row, text)));
            }
        }
    }
    Ok(first.into_values().map(|(_, attempt)| attempt).collect())
}

/// The logs of all processes, in the order of their names.
fn logs(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Io {
        action: "list",
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn attempt(at: String, mut trajectory: Trajectory, text: Text) -> Attempt {
    if text == Text::Drop {
        trajectory.messages = Vec::new();
    }
    Attempt { at, trajectory }
}
