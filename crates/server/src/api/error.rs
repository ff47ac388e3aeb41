//! What a client is told when something is wrong.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::engine::{AdapterError, Refused};

/// When a client should try again after a server that ends: another one may take its place at once.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// The longest piece of a request that is repeated in an answer.
const QUOTE: usize = 64;

/// An error in OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, where `code` is the HTTP status.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    retry_after: Option<Duration>,
}

/// The result of whatever a client asked for.
pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }

    /// 400 for the field `param`.
    pub(crate) fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestError", message).about(param)
    }

    /// 400 for the request as a whole.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestError", message)
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        let message = "expected `Authorization: Bearer KEY` with a key of this server";
        Self::new(StatusCode::UNAUTHORIZED, "AuthenticationError", message)
    }

    /// 403.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "PermissionDeniedError", message)
    }

    /// 404 for what is named by `param`.
    pub(crate) fn not_found(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFoundError", message).about(param)
    }

    /// 404 for a path.
    pub(crate) fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFoundError",
            "there is nothing at this path; see /openapi.json",
        )
    }

    /// 405.
    pub(crate) fn wrong_method() -> Self {
        let message = "this path has other methods; see /openapi.json";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowedError",
            message,
        )
    }

    /// 408.
    pub(crate) fn body_timeout(limit: Duration) -> Self {
        let message = format!("the body did not arrive within {} seconds", limit.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeoutError", message)
    }

    /// 431.
    pub(crate) fn head_too_large(limit: usize) -> Self {
        let message = format!("the names and values of the headers have more than {limit} bytes");
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "RequestHeadersTooLargeError",
            message,
        )
    }

    /// 413.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestTooLargeError",
            message,
        )
    }

    /// 415.
    pub(crate) fn wrong_media_type() -> Self {
        let message = "expected the header `Content-Type: application/json`";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaTypeError",
            message,
        )
    }

    /// 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            message,
        )
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailableError",
            message,
        )
    }

    /// 503 of a server that takes no new requests.
    pub(crate) fn draining() -> Self {
        Self::refused(Refused::Draining, "prompt")
    }

    fn about(mut self, param: &str) -> Self {
        self.param = Some(quote(param));
        self
    }

    /// The field that it is about, if it is about one.
    #[cfg(test)]
    pub(crate) fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// The answer's body, and the last event of a stream that fails.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status.as_u16(),
        }})
    }
}

/// The beginning of something that a client sent, for a message.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl ApiError {
    /// What the engine says to a request whose prompt came as the field `prompt`.
    pub(crate) fn refused(refused: Refused, prompt: &str) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::QueueFull { retry_after, .. } => Self {
                retry_after: Some(retry_after),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "RateLimitError", message)
            },
            Refused::Draining => Self {
                retry_after: Some(ELSEWHERE),
                ..Self::unavailable(message)
            },
            Refused::Failed(_) => Self::unavailable(message),
            Refused::UnknownAdapter(name) => Self::not_found(
                "model",
                format!("the model `{}` does not exist", quote(&name)),
            ),
            Refused::TooLong { .. } | Refused::UnknownToken { .. } | Refused::EmptyPrompt => {
                Self::invalid(prompt, format!("`{prompt}`: {message}"))
            }
        }
    }
}

impl From<AdapterError> for ApiError {
    fn from(error: AdapterError) -> Self {
        let message = error.to_string();
        match error {
            AdapterError::Exists(_) => Self::invalid(
                "lora_name",
                format!("{message}; set `load_inplace` to true to replace it"),
            ),
            AdapterError::Unknown(_) => Self::not_found("lora_name", message),
            AdapterError::Invalid(_) => Self::invalid("lora_path", message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs_f64().ceil().clamp(1.0, 3600.0) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
