//! The rest of an answer, passed on while it comes, and brought to a true end when it breaks.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use tokio::time::{Instant, Sleep};

use crate::backend::Backend;
use crate::backends::Lease;
use crate::events::{self, Kind, Splitter};
use crate::forward::{Answer, Job};
use crate::http::error::ApiError;
use crate::record::Outcome;
use crate::upstream::{Failure, Loan, Patience, TICK};

/// Bytes of a stream that are held back for want of content.
const HELD: usize = 64 << 10;

/// A stream before its first content.
#[derive(Debug)]
pub(crate) struct Hold {
    begun: Begun,
}

/// A stream and where it is.
#[derive(Debug)]
pub(crate) struct Begun {
    body: Incoming,
    /// Of a stream of events.
    events: Option<Events>,
}

/// Where a stream of events is.
#[derive(Debug)]
struct Events {
    splitter: Splitter,
    /// Its end is `[DONE]` and nothing else.
    ends_in_done: bool,
    done: bool,
}

/// Whole events, and what comes after them.
#[derive(Debug)]
struct Taken {
    whole: Bytes,
    fault: Option<Fault>,
}

/// Why a stream cannot be passed on any more.
#[derive(Debug)]
enum Fault {
    /// The connection broke, or what came was no stream of events.
    Broken,
    /// Nothing came for too long.
    Stalled,
    /// The backend is hung.
    Hung,
    /// The backend says so itself.
    Said(Bytes),
}

impl Hold {
    pub(crate) fn new(body: Incoming, ends_in_done: bool) -> Self {
        let events = Events {
            splitter: Splitter::default(),
            ends_in_done,
            done: false,
        };
        Self {
            begun: Begun {
                body,
                events: Some(events),
            },
        }
    }

    /// Reads up to the first event with content. Whatever goes wrong before, no client has seen anything.
    pub(crate) async fn until_content(
        mut self,
        backend: &Backend,
        patience: Patience,
    ) -> Result<(Begun, Bytes), Failure> {
        let mut held = BytesMut::new();
        loop {
            let frame = patience.wait(backend, self.begun.body.frame()).await?;
            let Some(frame) = frame else {
                let over = self.begun.ended_well() && !held.is_empty();
                return if over {
                    Ok((self.begun, held.freeze()))
                } else {
                    Err(Failure::Cut)
                };
            };
            let Ok(data) = frame.map_err(|_| Failure::Cut)?.into_data() else {
                continue;
            };
            let Taken { whole, fault } = self.begun.take(data);
            match fault {
                Some(Fault::Said(_)) => return Err(Failure::Said),
                Some(_) => return Err(Failure::Cut),
                None => {}
            }
            let has_content = events::each(&whole).any(events::has_content);
            if held.is_empty() && has_content {
                return Ok((self.begun, whole));
            }
            held.extend_from_slice(&whole);
            if has_content || held.len() > HELD {
                return Ok((self.begun, held.freeze()));
            }
        }
    }
}

impl Begun {
    /// What of a frame can be passed on.
    fn take(&mut self, data: Bytes) -> Taken {
        let Some(events) = &mut self.events else {
            return Taken {
                whole: data,
                fault: None,
            };
        };
        let Ok(whole) = events.splitter.push(data) else {
            return Taken {
                whole: Bytes::new(),
                fault: Some(Fault::Broken),
            };
        };
        if !events.ends_in_done {
            return Taken { whole, fault: None };
        }
        let mut good = 0;
        for event in events::each(&whole) {
            let end = good + event.len();
            let fault = match events::kind(event) {
                Kind::Object | Kind::Silent => None,
                Kind::Done => {
                    events.done = true;
                    None
                }
                Kind::Error => Some(Fault::Said(whole.slice(good..end))),
                Kind::Garbage => Some(Fault::Broken),
            };
            if fault.is_some() {
                let whole = whole.slice(..good);
                return Taken { whole, fault };
            }
            good = end;
        }
        Taken { whole, fault: None }
    }

    /// Whether the end of the connection's message is the end of the answer.
    fn ended_well(&self) -> bool {
        self.events.as_ref().is_none_or(|events| {
            events.done || !events.ends_in_done && events.splitter.is_between()
        })
    }

    fn is_done(&self) -> bool {
        self.events.as_ref().is_some_and(|events| events.done)
    }
}

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
        Self::stream(Begun { body, events: None }, first, loan, lease, epoch)
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
        let frame = match Pin::new(&mut opening.begun.body).poll_frame(context) {
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
        let is_stream = opening.begun.events.is_some();
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
        if is_stream && job.can_resume() && job.may_replay() {
            job.wanted.avoid.push(backend.id);
            self.state = State::Resuming(Box::pin(resume(job)));
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
async fn resume(mut job: Box<Job>) -> (Box<Job>, Option<Box<Opening>>) {
    job.wanted.continues = true;
    job.seen.resume();
    let limits = &job.shared.config.limits;
    job.deadline = Instant::now() + limits.request_timeout;
    let opening = match job.ask().await {
        Ok(Answer::Begun(parts, opening)) if parts.status.is_success() => {
            opening.begun.events.is_some().then_some(opening)
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
