//! One exchange with an OpenAI-compatible endpoint.
//!
//! Modules: `error` (why there is no answer), `words` (addresses and bodies in messages).

mod error;
mod words;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xgraft_dataset::{Message, Usage};

pub use self::error::{ClientError, Kind};

use self::words::{base_of, said_by};

/// The longest answer that is read, and what each token may take of it: more where the request asks for logprobs.
const MOST_BYTES: u64 = 1 << 20;
const TOKEN_BYTES: u64 = 256;
const TOKEN_WITH_LOGPROBS_BYTES: u64 = 8 << 10;

/// A key that no message and no log shows.
#[derive(Clone)]
pub struct ApiKey {
    header: HeaderValue,
    key: String,
}

impl ApiKey {
    /// A key as it stands in the environment.
    ///
    /// # Errors
    /// It has characters that no header may hold.
    pub fn new(key: &str) -> Result<Self, ClientError> {
        let key = key.trim().to_owned();
        let header = HeaderValue::from_str(&format!("Bearer {key}"));
        let mut header = header.map_err(|_| ClientError::Key)?;
        header.set_sensitive(true);
        Ok(Self { header, key })
    }

    /// A text without the key: servers repeat it in what they say of it.
    fn out_of(&self, text: &str) -> String {
        text.replace(&self.key, "…")
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
            .exchange(Method::GET, &url, Bytes::new(), (patience, MOST_BYTES))
            .await
        {
            Err(ClientError::Status { status, .. }) if status == StatusCode::NOT_FOUND => {
                return Ok(());
            }
            other => other?,
        };
        let models: Models = self.decode(&url, &body, "a list of models")?;
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

    /// Whether anything is said at this address.
    pub(crate) async fn is_there(&self, patience: Duration) -> bool {
        let url = format!("{}/models", self.base);
        let said = self
            .exchange(Method::GET, &url, Bytes::new(), (patience, MOST_BYTES))
            .await;
        matches!(said, Ok(_) | Err(ClientError::Status { .. }))
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
            .exchange(
                Method::POST,
                &url,
                body.into(),
                (patience, ask.most_bytes()),
            )
            .await?;
        let expected = "a chat completion";
        let answer: Answer = self.decode(&url, &body, expected)?;
        let choice = answer.choices.into_iter().next();
        let choice = choice.ok_or_else(|| ClientError::Form {
            url,
            expected,
            found: "no choice".to_owned(),
        })?;
        Ok(Said {
            text: self.masked(choice.message.content.unwrap_or_default()),
            cut: choice.finish_reason.as_deref() == Some("length"),
            usage: answer.usage.unwrap_or_default(),
        })
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
        (patience, most): (Duration, u64),
    ) -> Result<Bytes, ClientError> {
        let work = self.exchange_at_leisure(method, url, body, most);
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
        most: u64,
    ) -> Result<Bytes, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.header.clone());
        }
        let wrong = |_| ClientError::Url {
            url: url.to_owned(),
        };
        let request = request.body(Full::new(body)).map_err(wrong)?;
        let response = self.pool.request(request).await;
        let response = response.map_err(|error| unreachable(url, &error))?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(seconds);
        let most_here = usize::try_from(most).unwrap_or(usize::MAX);
        let body = Limited::new(response.into_body(), most_here)
            .collect()
            .await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => ClientError::Form {
                url: url.to_owned(),
                expected: "an answer of so many tokens",
                found: format!("more than {most} bytes"),
            },
            Err(error) => unreachable(url, error.as_ref()),
        })?;
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(ClientError::Status {
            url: url.to_owned(),
            status,
            said: self.masked(said_by(&body)),
            wait,
        })
    }

    /// What a server says, without the key.
    fn masked(&self, said: String) -> String {
        match &self.key {
            Some(key) => key.out_of(&said),
            None => said,
        }
    }

    fn decode<T: serde::de::DeserializeOwned>(
        &self,
        url: &str,
        body: &[u8],
        expected: &'static str,
    ) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|_| ClientError::Form {
            url: url.to_owned(),
            expected,
            found: self.masked(said_by(body)),
        })
    }
}

impl Ask<'_> {
    /// The longest body that can be its answer.
    fn most_bytes(&self) -> u64 {
        let token = match self.sampling.extra.get("logprobs") {
            None | Some(Value::Null | Value::Bool(false)) => TOKEN_BYTES,
            Some(_) => TOKEN_WITH_LOGPROBS_BYTES,
        };
        MOST_BYTES + token.saturating_mul(self.max_tokens.min(1 << 20))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let key = ApiKey::new("sk-secret").unwrap();
        let client = Client::new("http://a", Some(key)).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
        let key = ApiKey::new("sk-secret").unwrap();
        assert_eq!(key.out_of("wrong key sk-secret."), "wrong key ….");
    }
}
