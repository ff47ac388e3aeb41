//! `x-request-id`: the client's, or one of ours.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::chance::random_hex;

const NAME: HeaderName = HeaderName::from_static("x-request-id");

/// The longest that is taken over.
const LONGEST: usize = 128;

/// What the answer's own id is made of.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// Gives every request its id, and every answer the same.
pub(super) async fn layer(mut request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(&NAME)
        .and_then(|value| value.to_str().ok());
    let usable = |id: &&str| {
        !id.is_empty() && id.len() <= LONGEST && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let id = given
        .filter(usable)
        .map_or_else(random_hex, ToOwned::to_owned);
    let value = HeaderValue::from_str(&id).ok();
    request.extensions_mut().insert(RequestId(id));
    let mut response = next.run(request).await;
    if let Some(value) = value {
        response.headers_mut().insert(NAME, value);
    }
    response
}
