//! A line for every request, written by a thread of its own. Ids, paths and times; never a body, a query or a key.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::backend::Backend;
use crate::clock;

/// Lines that wait for a slow disk before they are dropped, and counted.
const LINES: usize = 8192;

/// Where the lines go.
pub type LogWriter = Box<dyn Write + Send>;

/// The way to the thread that writes.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

/// What is known of a request when it is over.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: HeaderValue,
    pub(crate) method: Method,
    pub(crate) path: Box<str>,
    pub(crate) model: Option<Box<str>>,
    pub(crate) status: u16,
    pub(crate) backend: Option<Arc<Backend>>,
    pub(crate) attempts: u32,
    pub(crate) resumed: u32,
    pub(crate) outcome: &'static str,
    pub(crate) head: Option<Duration>,
    pub(crate) whole: Duration,
}

#[derive(Serialize)]
struct Written<'a> {
    time: f64,
    id: &'a str,
    method: &'a str,
    path: &'a str,
    model: Option<&'a str>,
    status: u16,
    backend: Option<&'a str>,
    attempts: u32,
    resumed: u32,
    outcome: &'a str,
    head_ms: Option<f64>,
    total_ms: f64,
}

impl AccessLog {
    /// Starts the thread; it ends with the last line.
    pub(crate) fn start(writer: LogWriter) -> std::io::Result<Self> {
        let (lines, receiver) = sync_channel(LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        std::thread::Builder::new()
            .name("access log".to_owned())
            .spawn(move || write_all(writer, &receiver, &lost))?;
        Ok(Self { lines, dropped })
    }

    /// Never waits.
    pub(crate) fn log(&self, line: Line) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(mut writer: LogWriter, lines: &Receiver<Line>, lost: &AtomicU64) {
    while let Ok(first) = lines.recv() {
        let mut text = String::new();
        for line in std::iter::once(first).chain(lines.try_iter().take(LINES)) {
            render(&line, &mut text);
        }
        let dropped = lost.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            text.push_str(&format!("{{\"dropped_lines\":{dropped}}}\n"));
        }
        // A log that cannot be written is no reason to stop.
        let _ = writer.write_all(text.as_bytes());
        let _ = writer.flush();
    }
}

fn render(line: &Line, text: &mut String) {
    let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let written = Written {
        time: (clock::unix_time().as_secs_f64() * 1e3).round() / 1e3,
        id: line.id.to_str().unwrap_or_default(),
        method: line.method.as_str(),
        path: &line.path,
        model: line.model.as_deref(),
        status: line.status,
        backend: line.backend.as_ref().map(|backend| backend.url.as_str()),
        attempts: line.attempts,
        resumed: line.resumed,
        outcome: line.outcome,
        head_ms: line.head.map(millis),
        total_ms: millis(line.whole),
    };
    if let Ok(json) = serde_json::to_string(&written) {
        text.push_str(&json);
        text.push('\n');
    }
}
