//! Loading and unloading an adapter everywhere at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::connection::Worker;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::routes::post;
use super::{auth, body};
use crate::backend::Backend;
use crate::health::{self, Question};

/// An adapter of some gigabytes has to be read.
const PATIENCE: Duration = Duration::from_secs(300);

/// What one backend said.
#[derive(Debug)]
struct Said {
    url: String,
    /// Nothing if it could not be asked.
    status: Option<StatusCode>,
    message: String,
}

/// Asks every backend once, also drained ones, and says who did what. It is never asked twice, because the first time may
/// have done its work.
pub(super) async fn broadcast(
    worker: &Arc<Worker>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, ApiError> {
    let config = &worker.shared.config;
    auth::admin(&config.admin_keys, request.headers())?;
    post(&request)?;
    let path = request.uri().path().to_owned();
    let body = body::read(request.into_body(), &config.limits).await?;
    let mut asked = JoinSet::new();
    for backend in &worker.shared.backends.table().all {
        let (worker, backend) = (worker.clone(), backend.clone());
        let (path, body) = (path.clone(), body.clone());
        asked.spawn(async move { ask(&worker, &backend, &path, body).await });
    }
    let mut all = asked.join_all().await;
    all.sort_by(|a, b| a.url.cmp(&b.url));
    Ok(reply::json(status_of(&all), &report(&all)))
}

async fn ask(worker: &Worker, backend: &Backend, path: &str, body: Bytes) -> Said {
    let config = &worker.shared.config;
    let key = config.backend_admin_key.as_ref();
    let key = key.or(config.backend_key.as_ref());
    let question = Question {
        method: Method::POST,
        path,
        key: key.and_then(|key| key.bearer()),
        body,
        timeout: PATIENCE,
    };
    let answer = health::ask(backend, question).await;
    health::refresh_models(&worker.shared, backend).await;
    let url = backend.url.as_str().to_owned();
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
