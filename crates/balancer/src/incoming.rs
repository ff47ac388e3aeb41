//! What comes of a backend's answer: whole events, and what is wrong with them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};

use crate::backend::Backend;
use crate::events::{self, Kind, Splitter};
use crate::upstream::{Failure, Patience};

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
    /// What was wrong with it before it had said anything else.
    fault: Option<Fault>,
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
pub(crate) struct Taken {
    pub(crate) whole: Bytes,
    pub(crate) fault: Option<Fault>,
}

/// Why a stream cannot be passed on any more.
#[derive(Debug)]
pub(crate) enum Fault {
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
                fault: None,
            },
        }
    }

    /// Reads up to the first event with content. Whatever goes wrong before, no client has seen anything; but an error that
    /// the backend itself tells is its answer.
    pub(crate) async fn until_content(
        mut self,
        backend: &Backend,
        patience: Patience,
    ) -> Result<(Begun, Bytes), Failure> {
        let mut held = BytesMut::new();
        loop {
            let frame = patience
                .wait_for_more(backend, self.begun.body.frame())
                .await?;
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
                Some(said @ Fault::Said(_)) => {
                    held.extend_from_slice(&whole);
                    self.begun.fault = Some(said);
                    return Ok((self.begun, held.freeze()));
                }
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
    /// What is no stream of events.
    pub(crate) fn raw(body: Incoming) -> Self {
        Self {
            body,
            events: None,
            fault: None,
        }
    }

    /// What was wrong with it from the beginning.
    pub(crate) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// What comes next of the backend.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    /// Whether it is a stream of events.
    pub(crate) fn is_stream(&self) -> bool {
        self.events.is_some()
    }

    /// What of a frame can be passed on.
    pub(crate) fn take(&mut self, data: Bytes) -> Taken {
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
    pub(crate) fn ended_well(&self) -> bool {
        self.events.as_ref().is_none_or(|events| {
            events.done || !events.ends_in_done && events.splitter.is_between()
        })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.events.as_ref().is_some_and(|events| events.done)
    }
}
