//! What is served, and how it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::error::{ApiError, Result, quote};
use crate::api::openapi;
use crate::app::App;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /health`: whether requests are taken.
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    if app.is_draining() {
        return ApiError::draining().into_response();
    }
    match app.engine.failure() {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        None => StatusCode::OK.into_response(),
    }
}

/// `GET /version`.
pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response> {
    let page = app
        .metrics
        .page()
        .map_err(|_| ApiError::internal("the metrics could not be written"))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response())
}

/// `GET /openapi.json`.
pub(super) async fn openapi(State(app): State<Arc<App>>) -> Response {
    let words = app.tokenizer.vocab_size();
    let document = openapi::document(
        &app.config,
        app.engine.model(),
        words,
        app.template.as_ref(),
    );
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

/// `GET /v1/models`.
pub(super) async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"object": "list", "data": cards(&app)}))
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    let found = cards(&app).into_iter().find(|card| card["id"] == id);
    let missing = || {
        ApiError::not_found(
            "model",
            format!("the model `{}` does not exist", quote(&id)),
        )
    };
    found.map(Json).ok_or_else(missing)
}

/// The base under each of its names, then the adapters.
fn cards(app: &App) -> Vec<Value> {
    let base = &app.config.model_names[0];
    let card = |id: &str, root: &std::path::Path, parent: Option<&str>| {
        json!({
            "id": id,
            "object": "model",
            "created": app.started,
            "owned_by": "xgraft",
            "root": root.to_string_lossy(),
            "parent": parent,
            "max_model_len": app.engine.model().max_model_len,
        })
    };
    let names = app
        .config
        .model_names
        .iter()
        .map(|name| card(name, &app.config.root, None));
    let adapters = app.engine.adapters();
    let adapters = adapters
        .iter()
        .map(|adapter| card(&adapter.name, &adapter.dir, Some(base)));
    names.chain(adapters).collect()
}
