//! What happens in a run, one line each, and the thread that writes it down.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use xgraft_dataset::Trajectory;

use super::RunError;

/// How long a line waits for others before all of them go to the disk together.
const GROUP: Duration = Duration::from_millis(50);

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// A process began to work.
    Started { concurrency: usize },
    /// A question is in work.
    Claimed {
        question: &'a str,
        run: &'a str,
        generation: u32,
    },
    /// The endpoint failed, and is asked again.
    Retry {
        question: &'a str,
        run: &'a str,
        attempt: u32,
        wait_ms: u64,
        error: &'a str,
    },
    /// A question is done.
    Answer {
        generation: u32,
        trajectory: &'a Trajectory,
    },
    /// The endpoint failed too often: what was said until then, without a score. The question is asked again by the next start.
    Failed {
        generation: u32,
        trajectory: &'a Trajectory,
    },
    /// A question is given back, because the process was asked to stop.
    Released {
        question: &'a str,
        run: &'a str,
        generation: u32,
    },
    /// The process ends.
    Stopped { reason: &'a str },
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    /// Seconds since 1970.
    at: f64,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// The log of one process: a file of its own, which is only ever made longer.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Sender<Vec<u8>>,
    writer: JoinHandle<std::io::Result<()>>,
    path: PathBuf,
}

impl Log {
    pub(crate) fn create(path: &Path) -> Result<Self, RunError> {
        let file = OpenOptions::new().create_new(true).append(true).open(path);
        let file = file.map_err(RunError::io("create", path))?;
        let (lines, received) = channel();
        let writer = std::thread::spawn(move || write(file, &received));
        Ok(Self {
            lines,
            writer,
            path: path.to_owned(),
        })
    }

    /// Writes an event down, on the disk within moments.
    pub(crate) fn append(&self, event: &Event<'_>) -> Result<(), RunError> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let line = Line {
            schema: "xgraft.event/1",
            at: at.map_or(0.0, |d| d.as_millis() as f64 / 1e3),
            event,
        };
        let mut bytes = serde_json::to_vec(&line).map_err(|source| RunError::Encode { source })?;
        bytes.push(b'\n');
        // The thread ends early only if the disk fails; what it says is heard in `finish`.
        self.lines.send(bytes).map_err(|_| RunError::LogEnded {
            path: self.path.clone(),
        })
    }

    /// Waits until the disk has every line.
    pub(crate) fn finish(self) -> Result<(), RunError> {
        drop(self.lines);
        match self.writer.join() {
            Ok(done) => done.map_err(RunError::io("write", &self.path)),
            Err(_) => Err(RunError::LogEnded { path: self.path }),
        }
    }
}

/// Lines that come within a moment are written and synced together.
fn write(mut file: File, lines: &Receiver<Vec<u8>>) -> std::io::Result<()> {
    while let Ok(mut group) = lines.recv() {
        let until = Instant::now() + GROUP;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => group.extend_from_slice(&line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        file.write_all(&group)?;
        file.sync_data()?;
    }
    Ok(())
}
