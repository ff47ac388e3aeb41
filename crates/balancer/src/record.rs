//! What is counted and logged of one request when it is over, however it ends.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderValue;
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
    pub(crate) fn new(
        shared: &Arc<Shared>,
        id: &HeaderValue,
        method: &Method,
        path: &str,
        model: Option<&str>,
    ) -> Self {
        let line = || {
            Box::new(Line {
                id: id.clone(),
                method: method.clone(),
                path: path.into(),
                model: model.map(Into::into),
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

impl Drop for Record {
    fn drop(&mut self) {
        let whole = self.started.elapsed();
        let metrics = &self.shared.metrics;
        metrics.requests.add();
        metrics.whole.observe(whole);
        if let Some(head) = self.head {
            metrics.head.observe(head);
        }
        let outcome = match self.outcome {
            Outcome::Complete => "complete",
            Outcome::Cut => "cut",
            Outcome::Failed => {
                metrics.failed.add();
                "failed"
            }
            Outcome::Open => {
                metrics.left.add();
                "left"
            }
        };
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
