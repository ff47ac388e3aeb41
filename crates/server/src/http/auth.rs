//! API keys.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::Choice;

use crate::api::error::ApiError;
use crate::app::App;
use crate::config::ApiKey;

/// Lets only those pass who know a key.
pub(super) async fn user(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    guard(&app.config.api_keys, request, next).await
}

/// Lets only those pass who may change what is served.
pub(super) async fn admin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let config = &app.config;
    let keys = if config.admin_keys.is_empty() {
        &config.api_keys
    } else {
        &config.admin_keys
    };
    guard(keys, request, next).await
}

async fn guard(keys: &[ApiKey], request: Request, next: Next) -> Response {
    if keys.is_empty() || is_known(keys, request.headers()) {
        return next.run(request).await;
    }
    ApiError::unauthorized().into_response()
}

/// Compares with every key to its end.
fn is_known(keys: &[ApiKey], headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());
    let Some((scheme, given)) = value.and_then(|value| value.split_at_checked(7)) else {
        return false;
    };
    let known = keys.iter().fold(Choice::from(0), |known, key| {
        known | key.is(given.trim_ascii())
    });
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(known)
}
