//! The two endpoints that generate.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::body;
use super::request_id::RequestId;
use crate::api::answer::Answer;
use crate::api::chat::Chat;
use crate::api::completion::Completion;
use crate::api::error::{ApiError, Result};
use crate::api::stream;
use crate::app::App;
use crate::generate::{Plan, Running};
use crate::metrics::Watch;

/// `POST /v1/chat/completions`.
pub(super) async fn chat(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let prepare = move |app: &App, body: &[u8]| Chat::prepare(app, &format!("chatcmpl-{id}"), body);
    respond(app, &headers, body, prepare).await
}

/// `POST /v1/completions`.
pub(super) async fn completion(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let prepare =
        move |app: &App, body: &[u8]| Completion::prepare(app, &format!("cmpl-{id}"), body);
    respond(app, &headers, body, prepare).await
}

/// The engine's refusal is a status, in a stream too; only what goes wrong later is an event.
async fn respond<A: Answer>(
    app: Arc<App>,
    headers: &HeaderMap,
    body: Body,
    prepare: impl FnOnce(&App, &[u8]) -> Result<(A, Plan)> + Send + 'static,
) -> Result<Response> {
    let watch = Watch::new(app.metrics.clone());
    let body = body::read(headers, body, &app).await?;
    let queue = move |app: &App| {
        let (answer, plan) = prepare(app, &body)?;
        Ok((answer, plan.queue(app, &watch)?))
    };
    let (answer, running) = app.blocking(queue).await?;
    if answer.job().is_streamed() {
        return Ok(streamed(app, answer, running));
    }
    let whole = answer.whole(&mut running.follow(&app.tokenizer)).await?;
    let write = move |_: &App| {
        let text = answer.write(whole);
        text.map_err(|_| ApiError::internal("the answer could not be written"))
    };
    let text = app.blocking(write).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn streamed(app: Arc<App>, answer: impl Answer, running: Running) -> Response {
    let (events, response) = stream::channel();
    tokio::spawn(async move {
        let mut run = running.follow(&app.tokenizer);
        let _gone = answer.events(&mut run, &events).await;
    });
    response
}
