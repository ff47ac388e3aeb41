//! One request: which backends are asked, and whose answer the client gets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::http::response::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::backends::{Lease, NoBackend, Wanted};
use crate::headers::{clean, is_event_stream};
use crate::http::error::ApiError;
use crate::incoming::Hold;
use crate::judge::Judgement;
use crate::record::Record;
use crate::relay::Opening;
use crate::resume::{Plan, Seen};
use crate::shared::Shared;
use crate::upstream::{Exchange, Failure, Loan, Patience, Upstreams};

/// Between a connection that broke under a request and the next try. What ends several servers at once has ended all of them
/// by then, so that it costs a request one of its losses and not one for each.
pub(crate) const SETTLE: Duration = Duration::from_millis(250);

/// A request with everything that is needed to ask it again.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Arc<Upstreams>,
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) wanted: Wanted,
    /// Whether asking twice does nothing that asking once does not.
    pub(crate) repeatable: bool,
    /// Whether a stream of it ends in `[DONE]`.
    pub(crate) ends_in_done: bool,
    /// How it can go on elsewhere.
    pub(crate) plan: Option<Plan>,
    /// Whether the backend that speaks was asked by that plan.
    pub(crate) planned: bool,
    pub(crate) seen: Seen,
    /// Replays that it may still have.
    pub(crate) replays: u32,
    /// Connections that broke under it.
    pub(crate) losses: u32,
    /// Backends that failed it, which is their fault only if another does not.
    pub(crate) suspects: Vec<(Arc<Backend>, StatusCode)>,
    pub(crate) attempts: u32,
    pub(crate) deadline: Instant,
    pub(crate) record: Record,
}

/// What a client gets of a backend.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All of it.
    Whole(Parts, Bytes),
    /// Its beginning; the rest comes from the opening's connection.
    Begun(Parts, Box<Opening>),
}

impl Answer {
    pub(crate) fn parts(&self) -> &Parts {
        match self {
            Self::Whole(parts, _) | Self::Begun(parts, _) => parts,
        }
    }
}

impl Job {
    /// Asks one backend after the other, until one gives an answer that the client should have.
    pub(crate) async fn ask(&mut self) -> Result<Answer, ApiError> {
        loop {
            let lease = self.lease().await?;
            let backend = lease.backend.clone();
            self.attempts += 1;
            self.record.asked(&backend);
            let asked = Instant::now();
            match self.exchange(lease).await {
                Ok(answer) => match self.judge(&backend, &answer) {
                    Judgement::Good => {
                        backend.saw_head(asked.elapsed());
                        self.blame(&backend);
                        return Ok(answer);
                    }
                    Judgement::Refused if !self.can_go_elsewhere(&backend) => return Ok(answer),
                    Judgement::Failed if !self.can_repeat(&backend) => return Ok(answer),
                    Judgement::Failed => {
                        let status = answer.parts().status;
                        self.suspects.push((backend.clone(), status));
                    }
                    Judgement::Refused => {}
                },
                Err(failure) => {
                    self.account(&backend, failure)?;
                    if failure.is_loss() {
                        tokio::time::sleep(SETTLE).await;
                    }
                }
            }
            self.wanted.avoid.push(backend.id);
        }
    }

    async fn lease(&self) -> Result<Lease, ApiError> {
        let limits = &self.shared.config.limits;
        let deadline = self.deadline.min(Instant::now() + limits.queue_timeout);
        let lease = self.shared.backends.acquire(&self.wanted, deadline).await;
        lease.map_err(|why| match why {
            NoBackend::QueueFull => ApiError::queue_full(limits.queue),
            NoBackend::Timeout => ApiError::no_backend(limits.queue_timeout),
        })
    }

    /// Asks one backend, and reads so much of its answer that it can be passed on without looking back.
    async fn exchange(&mut self, lease: Lease) -> Result<Answer, Failure> {
        let backend = lease.backend.clone();
        let patience = Patience {
            epoch: backend.epoch(),
            deadline: self.deadline,
            stall: self.shared.config.limits.stall_timeout,
        };
        let request = self.request(&backend);
        let sent = self.pool.send(&backend, patience, request).await?;
        let Exchange {
            response,
            connection,
        } = sent;
        let loan = Loan {
            connection,
            pool: self.pool.clone(),
        };
        let (mut parts, body) = response.into_parts();
        let is_stream = is_event_stream(&parts.headers);
        clean(&mut parts.headers, self.method == Method::HEAD);
        if is_stream && parts.status.is_success() {
            let hold = Hold::new(body, self.ends_in_done);
            let (begun, first) = hold.until_content(&backend, patience).await?;
            let first = self.pass(first);
            let opening = Opening::stream(begun, first, loan, lease, patience.epoch);
            return Ok(Answer::Begun(parts, Box::new(opening)));
        }
        self.collect(parts, body, loan, lease, patience).await
    }

    /// What is not a stream of events is held back until it is whole, unless it is long.
    async fn collect(
        &self,
        parts: Parts,
        mut body: Incoming,
        loan: Loan,
        lease: Lease,
        patience: Patience,
    ) -> Result<Answer, Failure> {
        use http_body_util::BodyExt as _;
        let mut all = Collected::default();
        while !body.is_end_stream() {
            let Some(frame) = patience.wait_for_more(&lease.backend, body.frame()).await? else {
                break;
            };
            let Ok(data) = frame.map_err(|_| Failure::Cut)?.into_data() else {
                continue;
            };
            all.push(data);
            if all.length > self.shared.config.limits.answer {
                let opening = Opening::raw(body, all.into_bytes(), loan, lease, patience.epoch);
                return Ok(Answer::Begun(parts, Box::new(opening)));
            }
        }
        lease.backend.count_completed();
        loan.give_back(&lease.backend);
        Ok(Answer::Whole(parts, all.into_bytes()))
    }

    fn request(&mut self, backend: &Backend) -> Request<Full<Bytes>> {
        let plan = self.plan.as_ref();
        let plan = plan.filter(|_| backend.models().continues());
        self.planned = plan.is_some();
        let body = match plan {
            Some(plan) if self.seen.can_resume() => plan.body_after(&self.seen),
            Some(plan) => plan.body(),
            None => self.body.clone(),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.headers_mut() = self.headers.clone();
        let host = backend.url.host_header().clone();
        request.headers_mut().insert(header::HOST, host);
        request
    }

    /// Whole events as the client is to see them.
    pub(crate) fn pass(&mut self, whole: Bytes) -> Bytes {
        match &self.plan {
            Some(plan) if self.planned => self.seen.pass(plan, &whole),
            _ => whole,
        }
    }

    /// Whether another backend could go on after what was passed on.
    pub(crate) fn can_resume(&self) -> bool {
        self.planned && self.seen.can_resume()
    }
}

/// Pieces of a body; one alone is not copied.
#[derive(Debug, Default)]
struct Collected {
    pieces: Vec<Bytes>,
    length: usize,
}

impl Collected {
    fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        self.pieces.push(piece);
    }

    fn into_bytes(mut self) -> Bytes {
        match self.pieces.len() {
            0 => Bytes::new(),
            1 => self.pieces.swap_remove(0),
            _ => self.pieces.concat().into(),
        }
    }
}
