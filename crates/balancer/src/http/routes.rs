//! Which path is answered by whom.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use super::connection::Worker;
use super::error::ApiError;
use super::reply::Reply;
use super::{adapters, admin, auth, proxy, status};

/// What the balancer says itself, or else a backend's answer.
pub(super) async fn answer(worker: &Arc<Worker>, request: Request<Incoming>) -> Response<Reply> {
    let own = match request.uri().path() {
        _ if *request.method() == Method::CONNECT => Err(ApiError::wrong_method("no tunnel")),
        "/" => get(&request).map(|()| status::page()),
        "/health" => get(&request).map(|()| status::health(&worker.shared)),
        "/lb_status" => get(&request).map(|()| status::lb_status(&worker.shared)),
        "/metrics" => get(&request).map(|()| status::metrics(&worker.shared)),
        "/v1/models" if request.method() == Method::GET => {
            match auth::user(&worker.shared.config.api_keys, request.headers()) {
                Err(error) => Err(error),
                Ok(()) => match status::models(&worker.shared) {
                    Some(models) => Ok(models),
                    None => return proxy::forward(worker, request).await,
                },
            }
        }
        "/v1/load_lora_adapter" | "/v1/unload_lora_adapter" => {
            adapters::broadcast(worker, request).await
        }
        path if path.starts_with("/admin/") => admin::answer(worker, request).await,
        _ => return proxy::forward(worker, request).await,
    };
    own.unwrap_or_else(|error| error.response())
}

fn get(request: &Request<Incoming>) -> Result<(), ApiError> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(ApiError::wrong_method("GET")),
    }
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
