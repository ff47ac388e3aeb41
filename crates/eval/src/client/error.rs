//! Why an endpoint gives no answer, and what that means for a question.

use std::time::Duration;

use hyper::StatusCode;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address cannot be meant.
    #[error("endpoint {url}: expected http://HOST:PORT/v1 or https://HOST/v1")]
    Url {
        /// What was given.
        url: String,
    },
    /// The key has characters that no header may hold.
    #[error("the API key has characters that no HTTP header may hold")]
    Key,
    /// The system's certificates cannot be read.
    #[error("cannot read the certificates of this system, which an https endpoint needs")]
    Certificates {
        /// The cause.
        source: std::io::Error,
    },
    /// Nobody listens, or the connection broke.
    #[error("{url} does not answer: {cause}")]
    Unreachable {
        /// The address.
        url: String,
        /// The words of the innermost cause.
        cause: String,
    },
    /// The answer takes too long.
    #[error("{url} has not answered in {seconds} s")]
    Slow {
        /// The address.
        url: String,
        /// How long it had.
        seconds: u64,
    },
    /// The server refused.
    #[error("{url} answers {status}: {said}")]
    Status {
        /// The address.
        url: String,
        /// Its status.
        status: StatusCode,
        /// What it says, shortened.
        said: String,
        /// When it wants to be asked again.
        wait: Option<Duration>,
    },
    /// What came is no answer of this API.
    #[error(
        "{url}: expected {expected}, found {found}; is it the base of an OpenAI-compatible API?"
    )]
    Form {
        /// The address.
        url: String,
        /// What belongs there.
        expected: &'static str,
        /// What came, shortened.
        found: String,
    },
    /// The endpoint has other models.
    #[error("{url} has no model `{model}`, it has {found}")]
    NoModel {
        /// The address.
        url: String,
        /// What was asked for.
        model: String,
        /// What there is.
        found: String,
    },
}

/// What a failure means for the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may be asked again.
    Passing,
    /// The conversation is longer than the model's context.
    Overflow,
    /// This request will never be answered.
    Rejected,
    /// No question will be answered: key, model or address are wrong.
    Refused,
}

impl ClientError {
    /// What the failure means for the question.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } | Self::Form { .. } => Kind::Passing,
            Self::Status { status, .. } if status.is_server_error() => Kind::Passing,
            Self::Status { status, .. } if [408, 409, 425, 429].contains(&status.as_u16()) => {
                Kind::Passing
            }
            Self::Status { said, .. } if is_overflow(said) => Kind::Overflow,
            Self::Status { status, .. } if ![401, 403, 404].contains(&status.as_u16()) => {
                Kind::Rejected
            }
            _ => Kind::Refused,
        }
    }

    /// When the server wants to be asked again.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }
}

/// Servers say in many words that a conversation is too long.
fn is_overflow(said: &str) -> bool {
    let said = said.to_lowercase();
    let words = [
        "context_length",
        "context length",
        "maximum context",
        "max_model_len",
        "max token",
        "too many tokens",
        "prompt is too long",
        "longer than the",
    ];
    words.iter().any(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_conversation_is_told_from_a_bad_request() {
        let status = |status, said: &str| ClientError::Status {
            url: String::new(),
            status,
            said: said.to_owned(),
            wait: None,
        };
        let long = "This model's maximum context length is 4096 tokens";
        assert_eq!(status(StatusCode::BAD_REQUEST, long).kind(), Kind::Overflow);
        assert_eq!(
            status(StatusCode::BAD_REQUEST, "bad").kind(),
            Kind::Rejected
        );
        assert_eq!(
            status(StatusCode::UNAUTHORIZED, "key").kind(),
            Kind::Refused
        );
        assert_eq!(status(StatusCode::BAD_GATEWAY, "x").kind(), Kind::Passing);
        assert_eq!(
            status(StatusCode::TOO_MANY_REQUESTS, "x").kind(),
            Kind::Passing
        );
    }
}
