//! One request: which backends are asked, and whose answer the client gets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::response::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::backends::{Lease, NoBackend, Wanted};
use crate::http::error::ApiError;
use crate::record::Record;
use crate::relay::{Hold, Opening};
use crate::resume::{Plan, Seen};
use crate::shared::Shared;
use crate::upstream::{Exchange, Failure, Loan, Patience, Upstreams};

/// Backends that one request is brought to, whatever happens there.
const ATTEMPTS: u32 = 32;

/// A backend that wants peace and does not say for how long.
const PEACE: Duration = Duration::from_secs(1);
const LONGEST_PEACE: Duration = Duration::from_secs(60);

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
    pub(crate) replays: u32,
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
    fn parts(&self) -> &Parts {
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
                        return Ok(answer);
                    }
                    Judgement::Refused if !self.can_go_elsewhere(&backend) => return Ok(answer),
                    Judgement::Failed if !self.can_repeat(&backend) => return Ok(answer),
                    Judgement::Refused | Judgement::Failed => {}
                },
                Err(failure) => self.account(&backend, failure)?,
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
        };
        let request = self.request(&backend);
        let sent = self
            .pool
            .send(&backend, patience, self.repeatable, request)
            .await?;
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
            let Some(frame) = patience.wait(&lease.backend, body.frame()).await? else {
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

    /// What an answer says of its backend.
    fn judge(&self, backend: &Backend, answer: &Answer) -> Judgement {
        let parts = answer.parts();
        match parts.status {
            StatusCode::TOO_MANY_REQUESTS => {
                backend.pause(retry_after(&parts.headers).unwrap_or(PEACE));
                Judgement::Refused
            }
            StatusCode::SERVICE_UNAVAILABLE if retry_after(&parts.headers).is_some() => {
                backend.pause(retry_after(&parts.headers).unwrap_or(PEACE));
                Judgement::Refused
            }
            StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                backend.count_error();
                let status = format!("unhealthy (HTTP {})", parts.status.as_u16());
                self.eject_unless_last(backend, &status);
                Judgement::Failed
            }
            _ => {
                if backend.proved() {
                    self.shared.backends.dispatch();
                }
                Judgement::Good
            }
        }
    }

    /// Notes a failure, and whether the request can be asked again.
    fn account(&mut self, backend: &Arc<Backend>, failure: Failure) -> Result<(), ApiError> {
        backend.count_error();
        match failure {
            Failure::Connect(why) => {
                backend.eject(why);
                let tried = self.attempts < ATTEMPTS;
                return tried
                    .then_some(())
                    .ok_or_else(|| ApiError::unreachable(self.attempts));
            }
            Failure::Timeout => {
                return Err(ApiError::timeout(self.shared.config.limits.request_timeout));
            }
            Failure::Cut => self.eject_unless_last(backend, "connection lost"),
            // Its health is known to be bad, or it has just said what is wrong.
            Failure::Hung | Failure::Said => {}
        }
        if self.repeatable && self.may_replay() {
            return Ok(());
        }
        Err(ApiError::lost(self.repeatable))
    }

    fn can_go_elsewhere(&self, backend: &Backend) -> bool {
        self.attempts < ATTEMPTS && self.shared.backends.has_other(&self.wanted, backend.id)
    }

    fn can_repeat(&mut self, backend: &Backend) -> bool {
        self.repeatable && self.can_go_elsewhere(backend) && self.may_replay()
    }

    /// Takes one from the request's own replays and one from everybody's.
    pub(crate) fn may_replay(&mut self) -> bool {
        if self.replays == 0 {
            return false;
        }
        self.replays -= 1;
        if self.shared.budget.spend() {
            self.shared.metrics.replays.add();
            return true;
        }
        self.shared.metrics.denied.add();
        false
    }

    /// A fault that may be the request's own must not take everybody out.
    pub(crate) fn eject_unless_last(&self, backend: &Backend, why: &str) {
        if self.shared.backends.is_last(backend) {
            backend.doubt.notify_one();
        } else {
            backend.eject(why);
        }
    }
}

/// What to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// Pass it on.
    Good,
    /// The backend did nothing; somebody else may.
    Refused,
    /// The backend failed; somebody else may do better.
    Failed,
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

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

/// The seconds of a `Retry-After`; a date is as good as none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PEACE))
}

/// Takes out what belongs to one connection. The length is written anew with the body, unless there is none.
pub(crate) fn clean(headers: &mut HeaderMap, keep_length: bool) {
    if let Some(named) = headers.remove(header::CONNECTION) {
        let names = named.to_str().unwrap_or_default().split(',');
        for name in names.map(str::trim) {
            if let Ok(name) = header::HeaderName::from_bytes(name.as_bytes()) {
                headers.remove(name);
            }
        }
    }
    if !keep_length {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in [
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::HeaderName::from_static("keep-alive"),
        header::HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        clean(&mut headers, false);
        let left: Vec<_> = headers.keys().map(header::HeaderName::as_str).collect();
        assert_eq!(left, ["x-other"]);
    }

    #[test]
    fn retry_after_is_seconds() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("100000"), Some(LONGEST_PEACE));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }
}
