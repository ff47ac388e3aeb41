//! Asking backends how they are, and what they have.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backend::{Backend, State};
use crate::config::BackendUrl;
use crate::models::{self, ModelList};
use crate::shared::Shared;
use crate::upstream::{self, Failure};

/// How much more often a backend is asked that is not well.
const HURRY: u32 = 4;

/// Watches every backend with a task of its own.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    runtime: Handle,
    tasks: Arc<std::sync::Mutex<Vec<AbortHandle>>>,
}

impl Watch {
    /// Watches on the runtime that this is called on.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let runtime = Handle::current();
        shared.runs_on(&runtime);
        Self {
            shared: shared.clone(),
            runtime,
            tasks: Arc::default(),
        }
    }

    /// Adds a backend and begins to watch it; nothing if it is there.
    pub(crate) fn add(&self, url: BackendUrl) -> Option<Arc<Backend>> {
        let backend = self.shared.backends.add(url)?;
        let task = watch(self.shared.clone(), backend.clone());
        let task = self.runtime.spawn(task).abort_handle();
        let mut tasks = self
            .tasks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
        Some(backend)
    }

    pub(crate) fn stop(&self) {
        let tasks = self
            .tasks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Until it is removed.
async fn watch(shared: Arc<Shared>, backend: Arc<Backend>) {
    let health = &shared.config.health;
    let (mut well, mut ill, mut silent, mut tried) = (0_u32, 0_u32, 0_u32, 0_u32);
    let mut models_due = Instant::now();
    while !backend.is_removed() {
        match probe(&shared, &backend).await {
            Ok(()) => {
                (well, ill, silent) = (well.saturating_add(1), 0, 0);
                let comes_back = match backend.state() {
                    State::Unknown => true,
                    State::Down => well >= health.up,
                    State::Up | State::HalfOpen => false,
                };
                if comes_back || models_due <= Instant::now() {
                    refresh_models(&shared, &backend).await;
                    models_due = Instant::now() + health.models;
                }
                if comes_back && backend.bring_back() {
                    shared.backends.dispatch();
                }
                // An answer may take minutes; who is well for an interval with a request in work has proved enough.
                let works = backend.state() == State::HalfOpen && backend.in_flight() > 0;
                tried = if works { tried + 1 } else { 0 };
                if tried > HURRY && backend.proved() {
                    shared.backends.dispatch();
                }
            }
            // Whoever cannot ask learns nothing.
            Err(Ill::Local) => shared.lacks_something(),
            Err(why) => {
                (well, ill) = (0, ill.saturating_add(1));
                silent = if why.is_silence() { silent + 1 } else { 0 };
                if ill >= health.down || backend.state() == State::Unknown {
                    backend.eject(&why.to_string());
                }
                if silent == health.down {
                    backend.give_up();
                }
            }
        }
        let pause = match backend.state() {
            State::Up if ill == 0 => health.interval,
            _ => health.interval / HURRY,
        };
        let before = backend.state();
        let doubted = tokio::time::timeout(pause, backend.doubt.notified()).await;
        // Who was taken out while it seemed well has to prove it from the beginning.
        if doubted.is_ok() && before == State::Up && backend.state() == State::Down {
            well = 0;
        }
    }
}

/// Why a backend is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ill {
    #[error("timeout")]
    Timeout,
    #[error("{0}")]
    Connect(&'static str),
    #[error("this machine lacks descriptors, ports or memory")]
    Local,
    #[error("error (no HTTP)")]
    Protocol,
    #[error("unhealthy (HTTP {})", .0.as_u16())]
    Status(StatusCode),
}

impl Ill {
    /// Whether nobody is there at all. Who refuses connections may be about to end, and still answer what it has.
    fn is_silence(self) -> bool {
        matches!(self, Self::Timeout | Self::Connect("unreachable"))
    }
}

async fn probe(shared: &Shared, backend: &Backend) -> Result<(), Ill> {
    let health = &shared.config.health;
    let question = Question {
        path: &health.path,
        key: shared
            .config
            .backend_key
            .as_ref()
            .and_then(|key| key.bearer()),
        timeout: health.timeout,
        ..Question::default()
    };
    let (status, _) = ask(&backend.url, question).await?;
    if status.is_success() {
        Ok(())
    } else {
        Err(Ill::Status(status))
    }
}

/// Asks for the models and adapters, and tells everybody if they are others than before.
pub(crate) async fn refresh_models(shared: &Shared, backend: &Backend) {
    let question = Question {
        path: "/v1/models",
        key: shared
            .config
            .backend_key
            .as_ref()
            .and_then(|key| key.bearer()),
        timeout: shared.config.health.timeout,
        ..Question::default()
    };
    let list = match ask(&backend.url, question).await {
        Ok((status, body)) if status.is_success() => ModelList::parse(&body),
        Ok(_) => ModelList::default(),
        // It may be busy; what was known stands.
        Err(_) => return,
    };
    if backend.set_models(list) {
        shared.backends.models_changed();
    }
}

/// A request that is not a client's.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) key: Option<HeaderValue>,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
}

impl Default for Question<'_> {
    fn default() -> Self {
        Self {
            method: Method::GET,
            path: "/",
            key: None,
            body: Bytes::new(),
            timeout: Duration::from_secs(1),
        }
    }
}

/// Asks on a connection of its own, so that a backend is asked that takes connections.
pub(crate) async fn ask(
    url: &BackendUrl,
    question: Question<'_>,
) -> Result<(StatusCode, Bytes), Ill> {
    let timeout = question.timeout;
    let asked = tokio::time::timeout(timeout, exchange(url, question));
    asked.await.unwrap_or(Err(Ill::Timeout))
}

async fn exchange(url: &BackendUrl, question: Question<'_>) -> Result<(StatusCode, Bytes), Ill> {
    let opened = upstream::open(url, question.timeout).await;
    let stream = opened.map_err(|failure| match failure {
        Failure::Connect("timeout") => Ill::Timeout,
        Failure::Connect(why) => Ill::Connect(why),
        Failure::Local => Ill::Local,
        _ => Ill::Protocol,
    })?;
    let request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(header::HOST, url.host_header())
        .header(header::CONNECTION, "close")
        .header(header::CONTENT_TYPE, "application/json");
    let request = match question.key {
        Some(key) => request.header(header::AUTHORIZATION, key),
        None => request,
    };
    let request = request
        .body(Full::new(question.body))
        .map_err(|_| Ill::Protocol)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Ill::Protocol)?;
    let talk = async {
        let response = sender.send_request(request).await.ok()?;
        let status = response.status();
        let body = Limited::new(response.into_body(), models::LONGEST);
        Some((status, body.collect().await.ok()?.to_bytes()))
    };
    // Both in one task, so that the socket is closed when the question is dropped.
    tokio::pin!(talk, connection);
    let answer = tokio::select! {
        answer = &mut talk => answer,
        _ = &mut connection => talk.await,
    };
    answer.ok_or(Ill::Protocol)
}
