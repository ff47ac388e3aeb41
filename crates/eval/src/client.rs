//! One exchange with an OpenAI-compatible endpoint.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xgraft_dataset::{Message, Usage};

/// The longest answer that is read.
const MOST_BYTES: usize = 64 << 20;

/// A key that no message and no log shows.
#[derive(Clone)]
pub struct ApiKey(HeaderValue);

impl ApiKey {
    /// A key as it stands in the environment.
    ///
    /// # Errors
    /// It has characters that no header may hold.
    pub fn new(key: &str) -> Result<Self, ClientError> {
        let header = HeaderValue::from_str(&format!("Bearer {}", key.trim()));
        let mut header = header.map_err(|_| ClientError::Key)?;
        header.set_sensitive(true);
        Ok(Self(header))
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// What a server does with a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// The share of the likeliest tokens that are drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Tokens of one answer at most.
    pub max_tokens: u64,
    /// What else goes into every request: `top_k`, `chat_template_kwargs`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The model, as the endpoint names it.
    pub model: &'a str,
    /// The conversation.
    pub messages: &'a [Message],
    /// How it goes on.
    pub sampling: &'a Sampling,
    /// Tokens of this answer at most.
    pub max_tokens: u64,
    /// The number that everything random begins with.
    pub seed: u64,
    /// What ends the answer; it is not part of it.
    pub stop: &'a [&'a str],
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    max_tokens: u64,
    seed: u64,
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    stop: &'a [&'a str],
    stream: bool,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

/// What a model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The text.
    pub text: String,
    /// Whether it ends because there were no tokens left.
    pub cut: bool,
    /// What it cost.
    pub usage: Usage,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Reply,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

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

/// An endpoint, and the connections to it.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    key: Option<ApiKey>,
}

impl Client {
    /// An endpoint by its base: `http://HOST:PORT/v1`; without a path it is `/v1`.
    ///
    /// # Errors
    /// The address cannot be meant, or the system has no certificates for an https one.
    pub fn new(url: &str, key: Option<ApiKey>) -> Result<Self, ClientError> {
        let base = base_of(url)?;
        let builder = HttpsConnectorBuilder::new();
        let builder = if base.starts_with("https:") {
            let roots = builder.with_native_roots();
            roots.map_err(|source| ClientError::Certificates { source })?
        } else {
            builder.with_tls_config(no_roots())
        };
        let connector = builder.https_or_http().enable_http1().build();
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Ok(Self { pool, base, key })
    }

    /// The base of the API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Asks for the list of models, and whether `model` is among them. A server without such a list may have any.
    ///
    /// # Errors
    /// The endpoint does not answer, answers something else, or has no such model.
    pub async fn check(&self, model: &str, patience: Duration) -> Result<(), ClientError> {
        let url = format!("{}/models", self.base);
        let body = match self
            .exchange(Method::GET, &url, Bytes::new(), patience)
            .await
        {
            Err(ClientError::Status { status, .. }) if status == StatusCode::NOT_FOUND => {
                return Ok(());
            }
            other => other?,
        };
        let models: Models = decode(&url, &body, "a list of models")?;
        if models.data.iter().any(|one| one.id == model) {
            return Ok(());
        }
        let names: Vec<&str> = models.data.iter().map(|one| one.id.as_str()).collect();
        Err(ClientError::NoModel {
            url: self.base.clone(),
            model: model.to_owned(),
            found: if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            },
        })
    }

    /// Lets a conversation go on.
    ///
    /// # Errors
    /// There is no answer; [`ClientError::kind`] says what that means.
    pub async fn ask(&self, ask: &Ask<'_>, patience: Duration) -> Result<Said, ClientError> {
        let url = format!("{}/chat/completions", self.base);
        let body = Body {
            model: ask.model,
            messages: ask.messages,
            temperature: ask.sampling.temperature,
            top_p: ask.sampling.top_p,
            max_tokens: ask.max_tokens,
            seed: ask.seed,
            stop: ask.stop,
            stream: false,
            extra: &ask.sampling.extra,
        };
        let body = serde_json::to_vec(&body).map_err(|source| ClientError::Form {
            url: url.clone(),
            expected: "a request that JSON can hold",
            found: source.to_string(),
        })?;
        let body = self
            .exchange(Method::POST, &url, body.into(), patience)
            .await?;
        let expected = "a chat completion";
        let answer: Answer = decode(&url, &body, expected)?;
        let choice = answer.choices.into_iter().next();
        let choice = choice.ok_or_else(|| ClientError::Form {
            url,
            expected,
            found: "no choice".to_owned(),
        })?;
        Ok(Said {
            text: choice.message.content.unwrap_or_default(),
            cut: choice.finish_reason.as_deref() == Some("length"),
            usage: answer.usage.unwrap_or_default(),
        })
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes, ClientError> {
        let work = self.exchange_at_leisure(method, url, body);
        match tokio::time::timeout(patience, work).await {
            Ok(done) => done,
            Err(_) => Err(ClientError::Slow {
                url: url.to_owned(),
                seconds: patience.as_secs(),
            }),
        }
    }

    async fn exchange_at_leisure(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.0.clone());
        }
        let wrong = |_| ClientError::Url {
            url: url.to_owned(),
        };
        let request = request.body(Full::new(body)).map_err(wrong)?;
        let response = self.pool.request(request).await;
        let response = response.map_err(|error| unreachable(url, &error))?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(seconds);
        let body = Limited::new(response.into_body(), MOST_BYTES)
            .collect()
            .await;
        let body = body.map_err(|error| unreachable(url, error.as_ref()))?;
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(ClientError::Status {
            url: url.to_owned(),
            status,
            said: said_by(&body),
            wait,
        })
    }
}

fn base_of(url: &str) -> Result<String, ClientError> {
    let wrong = || ClientError::Url {
        url: url.to_owned(),
    };
    let trimmed = url.trim().trim_end_matches('/');
    let uri: hyper::Uri = trimmed.parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
        return Err(wrong());
    }
    // Credentials in an address would stand in every message.
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(ClientError::Url {
            url: "with a user's name in it".to_owned(),
        });
    }
    match uri.path() {
        "" | "/" => Ok(format!("{trimmed}/v1")),
        _ => Ok(trimmed.to_owned()),
    }
}

/// For a connector that will only be asked for http.
fn no_roots() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map(|builder| {
            builder
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth()
        })
        .unwrap_or_else(|_| unreachable!("the provider has the default protocol versions"))
}

fn unreachable(url: &str, error: &(dyn std::error::Error + 'static)) -> ClientError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ClientError::Unreachable {
        url: url.to_owned(),
        cause: cause.to_string(),
    }
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

fn decode<T: serde::de::DeserializeOwned>(
    url: &str,
    body: &[u8],
    expected: &'static str,
) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|_| ClientError::Form {
        url: url.to_owned(),
        expected,
        found: said_by(body),
    })
}

/// What a body says: the message of an error, the title of a page, or how it begins.
fn said_by(body: &[u8]) -> String {
    const MOST: usize = 300;
    let text = String::from_utf8_lossy(&body[..body.len().min(1 << 16)]);
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        let message = value.pointer("/error/message").or(value.get("message"));
        if let Some(Value::String(message)) = message {
            return message.chars().take(MOST).collect();
        }
    }
    let start = text.trim_start().to_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        let title = between(&text, "<title>", "</title>").unwrap_or("without a title");
        return format!("an HTML page, {}", title.trim());
    }
    match text.trim() {
        "" => "nothing".to_owned(),
        text => text.chars().take(MOST).collect(),
    }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_gets_v1() {
        assert_eq!(base_of("http://a:1").unwrap(), "http://a:1/v1");
        assert_eq!(base_of("http://a:1/").unwrap(), "http://a:1/v1");
        assert_eq!(
            base_of("https://a/openai/v1/").unwrap(),
            "https://a/openai/v1"
        );
        for wrong in ["a:1", "ftp://a", "http://", "http://u:secret@a", ""] {
            let error = base_of(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = ApiKey::new("sk-secret").unwrap();
        let client = Client::new("http://a", Some(key)).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }

    #[test]
    fn bodies_are_told_in_short() {
        assert_eq!(
            said_by(b"<!DOCTYPE html><title> 502 </title>"),
            "an HTML page, 502"
        );
        assert_eq!(said_by(br#"{"error": {"message": "no"}}"#), "no");
        assert_eq!(said_by(b" "), "nothing");
    }

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
