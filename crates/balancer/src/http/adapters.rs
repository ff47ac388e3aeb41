//! Loading and unloading an adapter everywhere at once.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Worker;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::routes::post;
use super::{auth, body};
use crate::backend::{Backend, State};
use crate::health::{self, Question};
use crate::upstream::Patience;

/// What one backend said.
#[derive(Debug)]
struct Said {
    url: String,
    /// Nothing if it could not be asked.
    status: Option<StatusCode>,
    message: String,
}

/// Asks every backend once, also drained ones, and says who did what. It is never asked twice, because the first time may
/// have done its work; and a client that leaves does not leave it half done.
pub(super) async fn broadcast(
    worker: &Arc<Worker>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, ApiError> {
    let config = &worker.shared.config;
    auth::admin(&config.admin_keys, request.headers())?;
    post(&request)?;
    let path = request.uri().path().to_owned();
    let body = body::read(request.into_body(), &config.limits).await?;
    let asked = tokio::spawn(ask_all(worker.clone(), path, body));
    // Of a task that panicked there is nothing to report.
    let all = asked.await.unwrap_or_default();
    Ok(reply::json(status_of(&all), &report(&all)))
}

async fn ask_all(worker: Arc<Worker>, path: String, body: Bytes) -> Vec<Said> {
    let mut asked = JoinSet::new();
    for backend in &worker.shared.backends.table().all {
        let (worker, backend) = (worker.clone(), backend.clone());
        let (path, body) = (path.clone(), body.clone());
        asked.spawn(async move { ask(&worker, &backend, &path, body).await });
    }
    let mut all = asked.join_all().await;
    all.sort_by(|a, b| a.url.cmp(&b.url));
    all
}

async fn ask(worker: &Worker, backend: &Backend, path: &str, body: Bytes) -> Said {
    let url = backend.url.as_str().to_owned();
    if backend.state() == State::Down {
        return Said {
            url,
            status: None,
            message: format!("not asked, because it is out: {}", backend.status()),
        };
    }
    let config = &worker.shared.config;
    let timeout = config.limits.adapter_timeout;
    let key = config.backend_admin_key.as_ref();
    let key = key.or(config.backend_key.as_ref());
    let question = Question {
        method: Method::POST,
        path,
        key: key.and_then(|key| key.bearer()),
        body,
        timeout,
    };
    let patience = Patience {
        epoch: backend.epoch(),
        deadline: Instant::now() + timeout,
        stall: timeout,
    };
    let asked = patience
        .wait(backend, health::ask(&backend.url, question))
        .await;
    // One that hangs does not say either what it has.
    let Ok(answer) = asked else {
        return Said {
            url,
            status: None,
            message: "it stopped to answer, also about its health".to_owned(),
        };
    };
    health::refresh_models(&worker.shared, backend).await;
    match answer {
        Ok((status, body)) => Said {
            url,
            status: Some(status),
            message: message(&body),
        },
        Err(why) => Said {
            url,
            status: None,
            message: why.to_string(),
        },
    }
}

/// The message of an error, or the whole text.
fn message(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match value["error"]["message"].as_str() {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    }
}

/// 200 if all did it, what they all said if all said the same, else 502.
fn status_of(all: &[Said]) -> StatusCode {
    let first = all.first().and_then(|said| said.status);
    match first {
        Some(status) if all.iter().all(|said| said.status == Some(status)) => status,
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn report(all: &[Said]) -> Value {
    let did = |said: &Said| said.status.is_some_and(|status| status.is_success());
    let one = |said: &Said| {
        json!({
            "url": said.url,
            "ok": did(said),
            "status": said.status.map(|status| status.as_u16()),
            "message": said.message,
        })
    };
    json!({
        "ok": all.iter().all(did) && !all.is_empty(),
        "backends": all.iter().map(one).collect::<Value>(),
    })
}
