//! The two endpoints that generate.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::body;
use super::request_id::RequestId;
use crate::api::answer::Answer;
use crate::api::chat::Chat;
use crate::api::completion::Completion;
use crate::api::error::{ApiError, Result};
use crate::api::stream;
use crate::app::App;
use crate::generate::Plan;
use crate::metrics::Watch;

/// `POST /v1/chat/completions`.
pub(super) async fn chat(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let watch = Watch::new(app.metrics.clone());
    let body = body::read(&headers, body, &app.config.limits).await?;
    let (chat, plan) = app
        .blocking(move |app| Chat::prepare(app, &format!("chatcmpl-{id}"), &body))
        .await?;
    respond(app, chat, plan, watch).await
}

/// `POST /v1/completions`.
pub(super) async fn completion(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let watch = Watch::new(app.metrics.clone());
    let body = body::read(&headers, body, &app.config.limits).await?;
    let (completion, plan) = app
        .blocking(move |app| Completion::prepare(app, &format!("cmpl-{id}"), &body))
        .await?;
    respond(app, completion, plan, watch).await
}

async fn respond(app: Arc<App>, answer: impl Answer, plan: Plan, watch: Watch) -> Result<Response> {
    if answer.job().is_streamed() {
        return streamed(app, answer, plan, watch).await;
    }
    let mut run = plan.start(&app, &app.tokenizer, &watch)?;
    Ok(axum::Json(answer.whole(&mut run).await?).into_response())
}

/// The engine's refusal is still a status; only what goes wrong later is an event.
async fn streamed(
    app: Arc<App>,
    answer: impl Answer,
    plan: Plan,
    watch: Watch,
) -> Result<Response> {
    let (started, refusal) = oneshot::channel();
    let (events, response) = stream::channel();
    tokio::spawn(async move {
        match plan.start(&app, &app.tokenizer, &watch) {
            Ok(mut run) => {
                let _ = started.send(Ok(()));
                let _gone = answer.events(&mut run, &events).await;
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
    let started = refusal.await;
    started.unwrap_or_else(|_| Err(ApiError::internal("the request could not be started")))?;
    Ok(response)
}
