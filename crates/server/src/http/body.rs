//! The body of a request, bounded in size and time.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::api::error::{ApiError, Result};
use crate::app::App;

/// Of a body that is too large so many times its limit is read and dropped, so that the client gets to read the answer.
const PATIENCE: usize = 8;

/// Reads it whole, unless the server drains meanwhile.
///
/// A body must say that it is JSON: one that a web page sends elsewhere without asking never does.
pub(super) async fn read(headers: &HeaderMap, body: Body, app: &App) -> Result<Bytes> {
    let limits = &app.config.limits;
    if !is_json(headers) {
        return Err(ApiError::wrong_media_type());
    }
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.body.saturating_mul(PATIENCE)) {
        return Err(ApiError::body_too_large(limits.body));
    }
    tokio::select! {
        all = collect(body, limits.body) => all,
        () = tokio::time::sleep(limits.body_timeout) => Err(ApiError::body_timeout(limits.body_timeout)),
        () = app.reading_ends() => Err(ApiError::draining()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let kind = value.and_then(|value| value.to_str().ok()?.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes> {
    let mut all = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::malformed("the body could not be read"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length = length.saturating_add(data.len());
        if length <= limit {
            all.extend_from_slice(&data);
        } else if length <= limit.saturating_mul(PATIENCE) {
            all = BytesMut::new();
        } else {
            break;
        }
    }
    if length > limit {
        Err(ApiError::body_too_large(limit))
    } else {
        Ok(all.freeze())
    }
}
