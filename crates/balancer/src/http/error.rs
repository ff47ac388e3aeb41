//! What a client is told when the balancer itself has to answer.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::reply::Reply;

/// An error in OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, where `code` is the HTTP status.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// 400.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestError", message)
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        let message = "expected `Authorization: Bearer KEY` with a key of this balancer";
        Self::new(StatusCode::UNAUTHORIZED, "AuthenticationError", message)
    }

    /// 403.
    pub(crate) fn no_admin() -> Self {
        let message = "this balancer was started without an admin key";
        Self::new(StatusCode::FORBIDDEN, "PermissionDeniedError", message)
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFoundError", message)
    }

    /// 405.
    pub(crate) fn wrong_method(expected: &str) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(
            status,
            "MethodNotAllowedError",
            format!("expected {expected}"),
        )
    }

    /// 408.
    pub(crate) fn slow_body(limit: Duration) -> Self {
        let message = format!("the body did not arrive within {} seconds", limit.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeoutError", message)
    }

    /// 409.
    pub(crate) fn exists(url: &str) -> Self {
        let message = format!("{url} is a backend already");
        Self::new(StatusCode::CONFLICT, "ConflictError", message)
    }

    /// 413.
    pub(crate) fn large_body(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(status, "RequestTooLargeError", message)
    }

    /// 429.
    pub(crate) fn queue_full(limit: usize) -> Self {
        let message = format!("{limit} requests wait for a backend already, the most that may");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "RateLimitError", message).retry_after(1)
    }

    /// 503 when nobody had room.
    pub(crate) fn no_backend(waited: Duration) -> Self {
        let message = format!("no backend had room within {} seconds", waited.as_secs());
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "ServiceUnavailableError", message).retry_after(1)
    }

    /// 503 when this machine could open no socket.
    pub(crate) fn exhausted() -> Self {
        let message = "the balancer's machine lacks descriptors, ports or memory for a connection to a backend";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "ServiceUnavailableError", message).retry_after(1)
    }

    /// 502 when nobody could be reached.
    pub(crate) fn unreachable(attempts: u32) -> Self {
        let message = format!("no backend could be reached in {attempts} attempts");
        Self::new(StatusCode::BAD_GATEWAY, "BadGatewayError", message)
    }

    /// 502 when a backend was lost with a request that may not be done twice.
    pub(crate) fn lost_once() -> Self {
        let message = "the backend was lost, and may have done what it was asked; this request is not asked twice";
        Self::new(StatusCode::BAD_GATEWAY, "BadGatewayError", message)
    }

    /// 502 when so many backends were lost that the request itself may be the cause.
    pub(crate) fn lost_often(times: u32) -> Self {
        let message = format!(
            "the connection to the backend broke {times} times while it worked on this request; \
             it is not asked again, because it may be the cause"
        );
        Self::new(StatusCode::BAD_GATEWAY, "BadGatewayError", message)
    }

    /// 502 when a backend failed and no more may be asked again.
    pub(crate) fn no_replay() -> Self {
        let message = "the backend failed, and as much was asked again already as may be";
        Self::new(StatusCode::BAD_GATEWAY, "BadGatewayError", message)
    }

    /// 504.
    pub(crate) fn timeout(limit: Duration) -> Self {
        let message = format!("no answer within {} seconds", limit.as_secs());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "GatewayTimeoutError", message)
    }

    /// The end of a stream that broke.
    pub(crate) fn cut() -> Self {
        let message = "the backend was lost; the answer is not complete";
        Self::new(StatusCode::BAD_GATEWAY, "BadGatewayError", message)
    }

    /// The end of a stream in which nothing happened any more.
    pub(crate) fn stalled(limit: Duration) -> Self {
        let message = format!(
            "nothing came from the backend for {} seconds; the answer is not complete",
            limit.as_secs()
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "GatewayTimeoutError", message)
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": null,
            "code": self.status.as_u16(),
        }})
    }

    /// As the last event of a stream. No `[DONE]` follows, so that nobody takes it for a complete one.
    pub(crate) fn event(&self) -> Bytes {
        format!("data: {}\n\n", self.body()).into()
    }

    /// As an answer.
    pub(crate) fn response(&self) -> Response<Reply> {
        let mut response = super::reply::json(self.status, &self.body());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}
