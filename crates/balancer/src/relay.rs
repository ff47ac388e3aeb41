//! The rest of an answer, passed on while it comes, and brought to a true end when it breaks.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::time::{Instant, Sleep};

use crate::backends::Lease;
use crate::forward::{Answer, Job, SETTLE};
use crate::http::error::ApiError;
use crate::incoming::{Begun, Fault, Taken};
use crate::record::Outcome;
use crate::upstream::{Loan, TICK};

/// The beginning of an answer, and everything that its rest needs.
#[derive(Debug)]
pub(crate) struct Opening {
    begun: Begun,
    first: Bytes,
    loan: Loan,
    lease: Lease,
    epoch: u32,
}

impl Opening {
    pub(crate) fn stream(begun: Begun, first: Bytes, loan: Loan, lease: Lease, epoch: u32) -> Self {
        Self {
            begun,
            first,
            loan,
            lease,
            epoch,
        }
    }

    pub(crate) fn raw(body: Incoming, first: Bytes, loan: Loan, lease: Lease, epoch: u32) -> Self {
        Self::stream(Begun::raw(body), first, loan, lease, epoch)
    }
}

/// The body of an answer that is passed on while it comes.
#[derive(Debug)]
pub(crate) struct Relay {
    state: State,
    /// What goes out before anything else.
    ready: Bytes,
    job: Option<Box<Job>>,
    /// The next look at the backend's health.
    tick: Pin<Box<Sleep>>,
    ticking: bool,
    progress: Instant,
    stall: Duration,
}

enum State {
    Passing(Box<Opening>),
    Resuming(Resuming),
    Ended,
}

type Resuming = Pin<Box<dyn Future<Output = (Box<Job>, Option<Box<Opening>>)> + Send>>;

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passing(_) => "Passing",
            Self::Resuming(_) => "Resuming",
            Self::Ended => "Ended",
        })
    }
}

/// An answer that is not a stream of events broke; the connection to the client breaks too, so that it knows.
#[derive(Debug, thiserror::Error)]
#[error("the backend's answer broke")]
pub(crate) struct Broken;

impl Relay {
    pub(crate) fn new(mut opening: Box<Opening>, job: Box<Job>) -> Self {
        Self {
            ready: std::mem::take(&mut opening.first),
            state: State::Passing(opening),
            stall: job.shared.config.limits.stall_timeout,
            job: Some(job),
            tick: Box::pin(tokio::time::sleep(TICK)),
            ticking: false,
            progress: Instant::now(),
        }
    }

    /// The next frame of the backend that speaks, or nothing if the state has changed.
    fn poll_passing(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let State::Passing(opening) = &mut self.state else {
            return Poll::Ready(None);
        };
        if let Some(fault) = opening.begun.take_fault() {
            return Poll::Ready(self.fault(fault));
        }
        let frame = match opening.begun.poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let fault = ready!(self.poll_patience(context));
                return Poll::Ready(self.fault(fault));
            }
        };
        let data = match frame {
            None if opening.begun.ended_well() => {
                self.finish();
                return Poll::Ready(None);
            }
            None | Some(Err(_)) => return Poll::Ready(self.fault(Fault::Broken)),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let Taken { whole, fault } = opening.begun.take(data);
        if !whole.is_empty() {
            self.progress = Instant::now();
        }
        let shown = match &mut self.job {
            Some(job) => job.pass(whole),
            None => whole,
        };
        let Some(fault) = fault else {
            return Poll::Ready((!shown.is_empty()).then(|| Ok(Frame::data(shown))));
        };
        let broken = self.fault(fault);
        if self.ready.is_empty() {
            self.ready = shown;
        } else if !shown.is_empty() {
            self.ready = [shown, std::mem::take(&mut self.ready)].concat().into();
        }
        Poll::Ready(broken)
    }

    /// Ready when the backend is not worth waiting for any more.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<Fault> {
        let State::Passing(opening) = &self.state else {
            return Poll::Pending;
        };
        loop {
            if !std::mem::replace(&mut self.ticking, true) {
                self.tick.as_mut().reset(Instant::now() + TICK);
            }
            ready!(self.tick.as_mut().poll(context));
            self.ticking = false;
            // After the end there is nothing to wait for.
            if opening.lease.backend.epoch() != opening.epoch || opening.begun.is_done() {
                return Poll::Ready(Fault::Hung);
            }
            if self.progress.elapsed() > self.stall {
                return Poll::Ready(Fault::Stalled);
            }
        }
    }

    /// Leaves the backend that failed, for another if that can be.
    fn fault(&mut self, fault: Fault) -> Option<Result<Frame<Bytes>, Broken>> {
        let State::Passing(opening) = std::mem::replace(&mut self.state, State::Ended) else {
            return None;
        };
        let mut job = self.job.take()?;
        let is_stream = opening.begun.is_stream();
        let is_done = opening.begun.is_done();
        let backend = opening.lease.backend.clone();
        drop(opening);
        if is_done {
            backend.count_completed();
            job.record.outcome = Outcome::Complete;
            return None;
        }
        backend.count_error();
        match fault {
            Fault::Broken => job.eject_unless_last(&backend, "connection lost"),
            Fault::Stalled => job.eject_unless_last(&backend, "stalled"),
            Fault::Hung | Fault::Said(_) => {}
        }
        job.shared.metrics.cut.add();
        let pause = match fault {
            Fault::Broken => SETTLE,
            _ => Duration::ZERO,
        };
        let may_go_on = match fault {
            Fault::Broken => job.may_lose(),
            Fault::Hung | Fault::Stalled | Fault::Said(_) => true,
        };
        if may_go_on && is_stream && job.can_resume() && job.may_replay() {
            job.wanted.avoid.push(backend.id);
            self.state = State::Resuming(Box::pin(resume(job, pause)));
            return None;
        }
        job.record.outcome = Outcome::Cut;
        job.shared.metrics.flagged.add();
        if !is_stream {
            return Some(Err(Broken));
        }
        self.ready = match fault {
            Fault::Said(event) => event,
            Fault::Stalled => ApiError::stalled(self.stall).event(),
            Fault::Broken | Fault::Hung => ApiError::cut().event(),
        };
        None
    }

    fn poll_resuming(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let State::Resuming(resuming) = &mut self.state else {
            return Poll::Ready(());
        };
        let (mut job, opening) = ready!(resuming.as_mut().poll(context));
        self.progress = Instant::now();
        match opening {
            Some(mut opening) => {
                job.shared.metrics.resumed.add();
                job.record.resumed();
                self.ready = std::mem::take(&mut opening.first);
                self.state = State::Passing(opening);
                self.job = Some(job);
            }
            None => {
                job.record.outcome = Outcome::Cut;
                job.shared.metrics.flagged.add();
                self.ready = ApiError::cut().event();
                self.state = State::Ended;
            }
        }
        Poll::Ready(())
    }

    fn finish(&mut self) {
        let State::Passing(opening) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let Opening { loan, lease, .. } = *opening;
        lease.backend.count_completed();
        loan.give_back(&lease.backend);
        if let Some(mut job) = self.job.take() {
            job.record.outcome = Outcome::Complete;
        }
    }
}

/// Asks another backend to go on. What it says before it goes on is not for the client.
async fn resume(mut job: Box<Job>, pause: Duration) -> (Box<Job>, Option<Box<Opening>>) {
    tokio::time::sleep(pause).await;
    job.wanted.continues = true;
    job.seen.resume();
    let limits = &job.shared.config.limits;
    job.deadline = Instant::now() + limits.request_timeout;
    let opening = match job.ask().await {
        Ok(Answer::Begun(parts, opening)) if parts.status.is_success() => {
            opening.begun.is_stream().then_some(opening)
        }
        _ => None,
    };
    (job, opening)
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if !self.ready.is_empty() {
                let ready = std::mem::take(&mut self.ready);
                return Poll::Ready(Some(Ok(Frame::data(ready))));
            }
            match &self.state {
                State::Ended => return Poll::Ready(None),
                State::Resuming(_) => ready!(self.poll_resuming(context)),
                State::Passing(_) => {
                    if let Some(frame) = ready!(self.poll_passing(context)) {
                        return Poll::Ready(Some(frame));
                    }
                }
            }
        }
    }
}
