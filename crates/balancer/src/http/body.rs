//! The body of a request, bounded in size and time.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use super::error::ApiError;
use crate::config::Limits;

/// Of a body that is too large so many times its limit is read and dropped, so that the client gets to read the answer.
const PATIENCE: usize = 4;

/// Reads it whole. A body that came in one piece is not copied.
pub(super) async fn read(body: Incoming, limits: &Limits) -> Result<Bytes, ApiError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > limits.body.saturating_mul(PATIENCE) as u64 {
        return Err(ApiError::large_body(limits.body));
    }
    let all = tokio::time::timeout(limits.body_timeout, collect(body, limits.body)).await;
    all.unwrap_or_else(|_| Err(ApiError::slow_body(limits.body_timeout)))
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::malformed("the body could not be read"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length = length.saturating_add(data.len());
        if length > limit {
            (first, all) = (Bytes::new(), Vec::new());
            if length > limit.saturating_mul(PATIENCE) {
                break;
            }
        } else if length == data.len() {
            first = data;
        } else {
            if all.is_empty() {
                all.reserve_exact(announced(&body, length).min(limit));
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    if length > limit {
        return Err(ApiError::large_body(limit));
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Bytes in all, if the client said how many.
fn announced(body: &Incoming, read: usize) -> usize {
    let left = body.size_hint().exact().unwrap_or(0);
    read.saturating_add(usize::try_from(left).unwrap_or(0))
}
