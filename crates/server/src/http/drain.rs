//! What a server that is about to end says to new requests.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::body;
use crate::api::error::ApiError;
use crate::app::App;

/// Refuses everything once the server drains. The body is read before, so that the client gets to read the answer.
pub(super) async fn layer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !app.is_draining() {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let _ = body::read(&head.headers, body, &app).await;
    let mut response = ApiError::draining().into_response();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}
