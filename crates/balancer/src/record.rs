//! What is counted and logged of one request when it is over, however it ends.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use tokio::time::Instant;

use crate::access::Line;
use crate::backend::Backend;
use crate::shared::Shared;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client has not got everything; if nothing else comes it has left.
    Open,
    /// The client got a backend's whole answer.
    Complete,
    /// No backend answered.
    Failed,
    /// The answer broke, and the client was told.
    Cut,
    /// The balancer itself had the answer.
    Own,
    /// The balancer itself refused it, before any backend heard of it.
    Refused,
}

/// One request's account, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Record {
    shared: Arc<Shared>,
    started: Instant,
    head: Option<Duration>,
    pub(crate) outcome: Outcome,
    /// What only the log needs.
    line: Option<Box<Line>>,
}

impl Record {
    pub(crate) fn new(shared: &Arc<Shared>, id: &HeaderValue, method: &Method, path: &str) -> Self {
        let line = || {
            Box::new(Line {
                id: id.clone(),
                method: method.clone(),
                path: path.into(),
                model: None,
                status: 0,
                backend: None,
                attempts: 0,
                resumed: 0,
                outcome: "",
                head: None,
                whole: Duration::ZERO,
            })
        };
        Self {
            line: shared.log.as_ref().map(|_| line()),
            shared: shared.clone(),
            started: Instant::now(),
            head: None,
            outcome: Outcome::Open,
        }
    }

    /// It names this model.
    pub(crate) fn names(&mut self, model: Option<&str>) {
        if let Some(line) = &mut self.line {
            line.model = model.map(Into::into);
        }
    }

    /// The balancer answers it itself.
    pub(crate) fn own(&mut self, status: StatusCode) {
        self.outcome = match status.is_client_error() || status.is_server_error() {
            true => Outcome::Refused,
            false => Outcome::Own,
        };
        self.answered(status.as_u16());
    }

    /// It is asked of this backend.
    pub(crate) fn asked(&mut self, backend: &Arc<Backend>) {
        if let Some(line) = &mut self.line {
            line.attempts += 1;
            line.backend = Some(backend.clone());
        }
    }

    /// It goes on at another backend.
    pub(crate) fn resumed(&mut self) {
        if let Some(line) = &mut self.line {
            line.resumed += 1;
        }
    }

    /// The client gets the head of an answer.
    pub(crate) fn answered(&mut self, status: u16) -> Duration {
        let after = self.started.elapsed();
        self.head = Some(after);
        if let Some(line) = &mut self.line {
            line.status = status;
        }
        after
    }
}

impl Record {
    /// Counts it, and says its outcome in a word. What no backend was to hear of is no request of the metrics.
    fn count(&self, whole: Duration) -> &'static str {
        let metrics = &self.shared.metrics;
        let (word, counter) = match self.outcome {
            Outcome::Own => return "own",
            Outcome::Refused => {
                metrics.refused.add();
                return "refused";
            }
            Outcome::Complete => ("complete", None),
            Outcome::Cut => ("cut", None),
            Outcome::Failed => ("failed", Some(&metrics.failed)),
            Outcome::Open => ("left", Some(&metrics.left)),
        };
        if let Some(counter) = counter {
            counter.add();
        }
        metrics.requests.add();
        metrics.whole.observe(whole);
        if let Some(head) = self.head {
            metrics.head.observe(head);
        }
        word
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let whole = self.started.elapsed();
        let outcome = self.count(whole);
        let Some(mut line) = self.line.take() else {
            return;
        };
        line.outcome = outcome;
        line.head = self.head;
        line.whole = whole;
        if let Some(log) = &self.shared.log {
            log.log(*line);
        }
    }
}
