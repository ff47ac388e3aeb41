//! Which path is answered by whom.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};

use super::connection::Worker;
use super::error::ApiError;
use super::reply::Reply;
use super::{adapters, admin, auth, proxy, status};
use crate::record::Record;
use crate::shared::Shared;

/// The answer to a request. All but what says how the balancer is has an id and a line in the log.
pub(super) async fn answer(worker: &Arc<Worker>, request: Request<Incoming>) -> Response<Reply> {
    if let Some(state) = state(worker, &request) {
        return state;
    }
    let id = proxy::request_id(request.headers());
    let (method, path) = (request.method(), request.uri().path());
    let record = Record::new(&worker.shared, &id, method, path);
    let mut response = recorded(worker, request, &id, record).await;
    response.headers_mut().insert(proxy::REQUEST_ID, id);
    response
}

/// How the balancer is, which everybody may know.
fn state(worker: &Worker, request: &Request<Incoming>) -> Option<Response<Reply>> {
    let say: fn(&Shared) -> Response<Reply> = match request.uri().path() {
        "/" => |_| status::page(),
        "/health" => status::health,
        "/lb_status" => status::lb_status,
        "/metrics" => status::metrics,
        _ => return None,
    };
    let said = match *request.method() {
        Method::GET | Method::HEAD => say(&worker.shared),
        _ => ApiError::wrong_method("GET").response(),
    };
    Some(said)
}

/// What the balancer says itself, or else a backend's answer.
async fn recorded(
    worker: &Arc<Worker>,
    request: Request<Incoming>,
    id: &HeaderValue,
    mut record: Record,
) -> Response<Reply> {
    let own = match request.uri().path() {
        _ if *request.method() == Method::CONNECT => Err(ApiError::wrong_method("no tunnel")),
        "/v1/models" if request.method() == Method::GET => match models(worker, &request) {
            Ok(None) => return proxy::forward(worker, request, id, record).await,
            Ok(Some(models)) => Ok(models),
            Err(error) => Err(error),
        },
        "/v1/load_lora_adapter" | "/v1/unload_lora_adapter" => {
            adapters::broadcast(worker, request).await
        }
        path if path == "/admin" || path.starts_with("/admin/") => {
            admin::answer(worker, request).await
        }
        _ => return proxy::forward(worker, request, id, record).await,
    };
    let response = own.unwrap_or_else(|error| error.response());
    record.own(response.status());
    response
}

/// The models of all backends; nothing if none has said which it has.
fn models(
    worker: &Worker,
    request: &Request<Incoming>,
) -> Result<Option<Response<Reply>>, ApiError> {
    auth::user(&worker.shared.config.api_keys, request.headers())?;
    Ok(status::models(&worker.shared))
}

/// Only what is POSTed.
pub(super) fn post(request: &Request<Incoming>) -> Result<(), ApiError> {
    match *request.method() {
        Method::POST => Ok(()),
        _ => Err(ApiError::wrong_method("POST")),
    }
}

/// An answer of JSON that is as it should be.
pub(super) fn fine(body: &serde_json::Value) -> Response<Reply> {
    super::reply::json(StatusCode::OK, body)
}
