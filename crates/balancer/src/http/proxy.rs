//! From a client's request to a job for the backends, and from their answer to the client's.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response};
use tokio::time::Instant;

use super::connection::Worker;
use super::reply::Reply;
use super::{auth, body};
use crate::backends::{Wanted, mix};
use crate::forward::{Answer, Job};
use crate::headers::clean;
use crate::record::{Outcome, Record};
use crate::relay::Relay;
use crate::resume::{Plan, Seen};
use crate::scan::{self, Members};
use crate::shared::Shared;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over.
const LONGEST_ID: usize = 128;

/// Bytes of a prompt by which requests are alike.
const PREFIX: usize = 1024;

/// Generates, ends its streams in `[DONE]`.
const GENERATIONS: [&str; 2] = ["/v1/chat/completions", "/v1/completions"];

/// Other paths at which asking twice does nothing that asking once does not.
const REPEATABLE: [&str; 14] = [
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/rerank",
    "/v1/score",
    "/v2/rerank",
    "/classify",
    "/detokenize",
    "/embeddings",
    "/generate",
    "/pooling",
    "/rerank",
    "/score",
    "/tokenize",
];

/// What of a body matters for where it goes.
#[derive(Debug, Default)]
struct Look {
    model: Option<Box<str>>,
    stream: bool,
    prefix: Option<u64>,
}

/// Asks the backends.
pub(super) async fn forward(
    worker: &Arc<Worker>,
    request: Request<Incoming>,
    id: &HeaderValue,
    mut record: Record,
) -> Response<Reply> {
    let (mut parts, body) = request.into_parts();
    let shared = &worker.shared;
    let allowed = auth::user(&shared.config.api_keys, &parts.headers);
    // Browsers ask without a key whether they may ask. No body and no key of ours goes along.
    let is_question = parts.method == Method::OPTIONS && allowed.is_err();
    let read = match allowed {
        Err(_) if is_question => Ok(Bytes::new()),
        Ok(()) => body::read(body, &shared.config.limits).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(body) => {
            prepare_headers(&mut parts.headers, shared, id);
            if is_question {
                parts.headers.remove(header::AUTHORIZATION);
            }
            asked(job(worker, parts, body, record)).await
        }
        Err(error) => {
            record.own(error.status());
            error.response()
        }
    }
}

async fn asked(mut job: Box<Job>) -> Response<Reply> {
    job.shared.budget.earn();
    match job.ask().await {
        Err(error) => {
            job.record.outcome = Outcome::Failed;
            job.record.answered(error.status().as_u16());
            error.response()
        }
        Ok(Answer::Whole(parts, body)) => {
            job.record.answered(parts.status.as_u16());
            job.record.outcome = Outcome::Complete;
            Response::from_parts(parts, Reply::Whole(body))
        }
        Ok(Answer::Begun(parts, opening)) => {
            job.record.answered(parts.status.as_u16());
            let relay = Relay::new(opening, job);
            Response::from_parts(parts, Reply::Relay(Box::new(relay)))
        }
    }
}

fn job(worker: &Arc<Worker>, parts: Parts, body: Bytes, mut record: Record) -> Box<Job> {
    let shared = &worker.shared;
    let path = parts.uri.path();
    let generates = parts.method == Method::POST && GENERATIONS.contains(&path);
    let look = look(&parts.method, path, &body, shared.config.prefix_affinity);
    record.names(look.model.as_deref());
    let root = || PathAndQuery::from_static("/");
    let plan = (generates && look.stream).then(|| Plan::of(&body, random()));
    Box::new(Job {
        shared: shared.clone(),
        pool: worker.pool.clone(),
        repeatable: is_repeatable(&parts.method, path),
        ends_in_done: generates,
        path: parts.uri.path_and_query().cloned().unwrap_or_else(root),
        method: parts.method,
        headers: parts.headers,
        body,
        wanted: Wanted {
            model: look.model,
            affinity: look.prefix,
            ..Wanted::default()
        },
        plan: plan.flatten(),
        planned: false,
        seen: Seen::default(),
        replays: shared.config.retries.replays,
        losses: 0,
        suspects: Vec::new(),
        attempts: 0,
        deadline: Instant::now() + shared.config.limits.request_timeout,
        record,
    })
}

fn is_repeatable(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => true,
        Method::POST => GENERATIONS.contains(&path) || REPEATABLE.contains(&path),
        _ => false,
    }
}

fn look(method: &Method, path: &str, body: &Bytes, affinity: bool) -> Look {
    let mut look = Look::default();
    if *method == Method::GET {
        look.model = path.strip_prefix("/v1/models/").map(Into::into);
        return look;
    }
    let mut hasher = affinity.then(DefaultHasher::new);
    for member in Members::of(body) {
        let value = &body[member.value];
        match &body[member.key] {
            b"model" => look.model = scan::text(value),
            b"stream" => look.stream = value == b"true",
            b"messages" | b"prompt" => {
                if let Some(hasher) = &mut hasher {
                    value[..value.len().min(PREFIX)].hash(hasher);
                }
            }
            _ => {}
        }
    }
    look.prefix = hasher.map(|mut hasher| {
        look.model.hash(&mut hasher);
        hasher.finish()
    });
    look
}

/// What the backend sees in place of what was meant for the balancer.
fn prepare_headers(headers: &mut HeaderMap, shared: &Shared, id: &HeaderValue) {
    clean(headers, false);
    headers.remove(header::EXPECT);
    // What is compressed cannot be looked at.
    headers.remove(header::ACCEPT_ENCODING);
    if !shared.config.api_keys.is_empty() {
        headers.remove(header::AUTHORIZATION);
    }
    if let Some(key) = shared
        .config
        .backend_key
        .as_ref()
        .and_then(|key| key.bearer())
    {
        headers.insert(header::AUTHORIZATION, key);
    }
    headers.insert(REQUEST_ID, id.clone());
}

/// The client's id for a request, or one of ours.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let usable = |id: &&HeaderValue| {
        let id = id.as_bytes();
        !id.is_empty() && id.len() <= LONGEST_ID && id.iter().all(u8::is_ascii_graphic)
    };
    if let Some(id) = headers.get(REQUEST_ID).filter(usable) {
        return id.clone();
    }
    let id = format!("{:016x}", random());
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// A number that differs every time; for seeds that nobody gave and for names, not for secrets.
fn random() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let start = START.get_or_init(|| crate::clock::unix_time().as_nanos() as u64);
    mix(start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)))
}
