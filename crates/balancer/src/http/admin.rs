//! Changing the backends at run time.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde::Deserialize;
use serde_json::json;

use super::connection::Worker;
use super::error::ApiError;
use super::reply::Reply;
use super::routes::{fine, post};
use super::{auth, body, status};
use crate::backend::Backend;
use crate::config::BackendUrl;

/// Which backend.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    url: String,
}

/// Everything under `/admin/`.
pub(super) async fn answer(
    worker: &Arc<Worker>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, ApiError> {
    auth::admin(&worker.shared.config.admin_keys, request.headers())?;
    let path = request.uri().path().to_owned();
    match (path.as_str(), request.method()) {
        ("/admin/backends", &Method::GET) => Ok(status::lb_status(&worker.shared)),
        ("/admin/backends", &Method::POST) => {
            let url = named(worker, request).await?;
            let added = worker.watch.add(url.clone());
            added.ok_or_else(|| ApiError::exists(url.as_str()))?;
            Ok(done("added", &url))
        }
        ("/admin/backends", &Method::DELETE) => {
            let url = named(worker, request).await?;
            if worker.shared.backends.remove(&url) {
                Ok(done("removed", &url))
            } else {
                Err(unknown(&url))
            }
        }
        ("/admin/backends", _) => Err(ApiError::wrong_method("GET, POST or DELETE")),
        ("/admin/drain" | "/admin/undrain", _) => {
            post(&request)?;
            let drained = path == "/admin/drain";
            let url = named(worker, request).await?;
            find(worker, &url)?.set_drained(drained);
            worker.shared.backends.dispatch();
            Ok(done(if drained { "drained" } else { "undrained" }, &url))
        }
        _ => Err(ApiError::not_found(
            "there is nothing at this path; see /admin/backends, /admin/drain, /admin/undrain",
        )),
    }
}

async fn named(worker: &Worker, request: Request<Incoming>) -> Result<BackendUrl, ApiError> {
    let body = body::read(request.into_body(), &worker.shared.config.limits).await?;
    let Named { url } = serde_json::from_slice(&body).map_err(|error| {
        ApiError::malformed(format!(
            "expected {{\"url\": \"http://HOST:PORT\"}}: {error}"
        ))
    })?;
    BackendUrl::parse(&url).map_err(|error| ApiError::malformed(error.to_string()))
}

fn find(worker: &Worker, url: &BackendUrl) -> Result<Arc<Backend>, ApiError> {
    let found = worker.shared.backends.find(url);
    found.ok_or_else(|| unknown(url))
}

fn unknown(url: &BackendUrl) -> ApiError {
    ApiError::not_found(format!("{} is no backend", url.as_str()))
}

fn done(what: &str, url: &BackendUrl) -> Response<Reply> {
    fine(&json!({"url": url.as_str(), "done": what}))
}
