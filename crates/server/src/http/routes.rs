//! Which path is answered by what.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use super::{adapters, auth, cors, drain, generate, request_id, status, tokens};
use crate::api::error::ApiError;
use crate::app::App;

/// Everything. Health, version, metrics and the description need no key.
pub(super) fn router(app: Arc<App>) -> Router {
    let user = Router::new()
        .route("/v1/chat/completions", post(generate::chat))
        .route("/v1/completions", post(generate::completion))
        .route("/v1/models", get(status::models))
        .route("/v1/models/{*id}", get(status::model))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route_layer(from_fn_with_state(app.clone(), auth::user));
    let admin = Router::new()
        .route("/v1/load_lora_adapter", post(adapters::load))
        .route("/v1/unload_lora_adapter", post(adapters::unload))
        .route_layer(from_fn_with_state(app.clone(), auth::admin));
    Router::new()
        .route("/health", get(status::health))
        .route("/version", get(status::version))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(status::openapi))
        .merge(
            user.merge(admin)
                .route_layer(from_fn_with_state(app.clone(), drain::layer)),
        )
        .fallback(async || ApiError::no_such_path())
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .layer(from_fn_with_state(app.clone(), cors::layer))
        .layer(from_fn(request_id::layer))
        .with_state(app)
}
