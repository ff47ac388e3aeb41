//! What a server is told before it starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use subtle::{Choice, ConstantTimeEq};

use crate::defaults::GenerationDefaults;

/// Everything that can be chosen about the server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The names by which a request may ask for the base; the first is the one that answers carry. At least one.
    pub model_names: Vec<String>,
    /// Where the base was read from, for `/v1/models`.
    pub root: PathBuf,
    /// Sampling parameters that a request does not give, and the tokens that end a text.
    pub defaults: GenerationDefaults,
    /// Keys for everything but health, version, metrics and the description. Without one, everything is open.
    pub api_keys: Vec<ApiKey>,
    /// Keys for loading and unloading adapters, in place of `api_keys`.
    pub admin_keys: Vec<ApiKey>,
    /// Whether requests may load and unload adapters.
    pub runtime_adapters: RuntimeAdapters,
    /// Adapters that may be there at once.
    pub max_adapters: usize,
    /// Logprobs of a token that a request may ask for; `None` lets it have the whole vocabulary.
    pub max_logprobs: Option<usize>,
    /// Generations that one request may start: its prompts times `n`.
    pub max_choices: usize,
    /// Whether `<think>` and `</think>` separate reasoning from content.
    pub split_reasoning: bool,
    /// Origins that browsers may call from; `*` for any.
    pub cors_origins: Vec<String>,
    /// What a connection may take.
    pub limits: Limits,
}

/// What a client may take of time and memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Open connections; more wait.
    pub connections: usize,
    /// For the head of a request, and between two requests of a connection.
    pub head_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
    /// Without a byte being taken by a client that has something to read.
    pub write_timeout: Duration,
    /// For running requests after the server was told to end.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 16 << 20,
            connections: 4096,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(180),
        }
    }
}

/// Whether requests may load adapters, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeAdapters {
    /// They may not.
    Refused,
    /// From below this directory, whatever links lead out of it.
    Below(PathBuf),
    /// From anywhere that the process can read.
    Anywhere,
}

/// A secret that is compared in constant time and never shown.
#[derive(Clone)]
pub struct ApiKey(Box<[u8]>);

impl ApiKey {
    /// The key, which must not be empty.
    ///
    /// # Errors
    /// It is empty, or no header can carry it.
    pub fn new(key: &str) -> Result<Self, ConfigError> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Key);
        }
        Ok(Self(key.as_bytes().into()))
    }

    /// Whether this is the key; takes the same time wherever the difference is.
    pub(crate) fn is(&self, given: &[u8]) -> Choice {
        self.0.ct_eq(given)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// What is wrong with a [`ServerConfig`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key that no client could send.
    #[error("api key: expected printable ASCII characters without spaces, found others or none")]
    Key,
    /// No name for the base.
    #[error("model_names: expected at least one name that is not empty")]
    ModelName,
    /// A limit of nothing.
    #[error("{name}: expected more than 0")]
    Zero {
        /// The field.
        name: &'static str,
    },
    /// The directory that adapters must lie in.
    #[error("the directory of adapters {} cannot be used", .dir.display())]
    AdapterRoot {
        /// The directory.
        dir: PathBuf,
        /// The operating system's own words.
        source: std::io::Error,
    },
    /// The vocabulary cannot be used for structured outputs.
    #[error("structured outputs: the vocabulary cannot be used: {reason}")]
    Vocabulary {
        /// Why.
        reason: String,
    },
}

impl ServerConfig {
    /// A server of the base in `root` under one name, with every protection and no key.
    #[must_use]
    pub fn new(model_name: impl Into<String>, root: &Path) -> Self {
        Self {
            model_names: vec![model_name.into()],
            root: root.to_owned(),
            defaults: GenerationDefaults::default(),
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
            runtime_adapters: RuntimeAdapters::Refused,
            max_adapters: 64,
            max_logprobs: Some(20),
            max_choices: 128,
            split_reasoning: true,
            cors_origins: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Checks it, and resolves the links of the directory of adapters.
    pub(crate) fn validated(mut self) -> Result<Self, ConfigError> {
        if self.model_names.is_empty() || self.model_names.iter().any(String::is_empty) {
            return Err(ConfigError::ModelName);
        }
        let sizes = [
            ("max_adapters", self.max_adapters),
            ("max_choices", self.max_choices),
            ("limits.body", self.limits.body),
            ("limits.connections", self.limits.connections),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ConfigError::Zero { name });
        }
        if let RuntimeAdapters::Below(dir) = &mut self.runtime_adapters {
            *dir = dir
                .canonicalize()
                .map_err(|source| ConfigError::AdapterRoot {
                    dir: dir.clone(),
                    source,
                })?;
        }
        Ok(self)
    }
}
