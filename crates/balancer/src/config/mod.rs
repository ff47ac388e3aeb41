//! What a balancer is told before it starts.

mod key;
mod url;

use std::path::PathBuf;
use std::time::Duration;

pub use self::key::ApiKey;
pub use self::url::BackendUrl;

/// Everything that can be chosen about the balancer.
#[derive(Debug, Clone)]
pub struct Config {
    /// The servers behind it; more can come and go at run time.
    pub backends: Vec<BackendUrl>,
    /// A file with one URL a line, read again whenever it changes.
    pub backends_file: Option<PathBuf>,
    /// Keys of clients. Without one, everything is open, and a client's own key goes on to the backend.
    pub api_keys: Vec<ApiKey>,
    /// Keys for the admin API and for loading adapters. Without one, neither is there.
    pub admin_keys: Vec<ApiKey>,
    /// What the backends are shown in place of the client's key.
    pub backend_key: Option<ApiKey>,
    /// What the backends are shown when an adapter is loaded; `backend_key` if there is none.
    pub backend_admin_key: Option<ApiKey>,
    /// Threads that move bytes.
    pub workers: usize,
    /// Whether requests that begin alike go to the same backend where that costs nothing.
    pub prefix_affinity: bool,
    /// How backends are watched.
    pub health: Health,
    /// What may be asked of another backend.
    pub retries: Retries,
    /// What a client and a backend may take.
    pub limits: Limits,
}

/// How backends are watched.
#[derive(Debug, Clone)]
pub struct Health {
    /// What is asked of them.
    pub path: String,
    /// Between two questions to a backend that is well. One that is not is asked four times as often.
    pub interval: Duration,
    /// For the answer, and for a connection.
    pub timeout: Duration,
    /// Failures in a row that make a backend down.
    pub down: u32,
    /// Successes in a row that bring it back.
    pub up: u32,
    /// How long a backend that came back has less than its share.
    pub slow_start: Duration,
    /// Between two looks at the models and adapters that a backend has.
    pub models: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            down: 2,
            up: 2,
            slow_start: Duration::from_secs(2),
            models: Duration::from_secs(10),
        }
    }
}

/// What may be asked again.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Times that a request may be asked again after a backend had begun to work on it.
    pub replays: u32,
    /// Of these, times after a connection that broke under it: a request that ends its server ends no more than one more
    /// than these.
    pub losses: u32,
    /// Replays for each request, over all of them, beyond `reserve`.
    pub share: f64,
    /// Replays that may happen at once.
    pub reserve: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            replays: 4,
            losses: 2,
            share: 0.2,
            reserve: 512,
        }
    }
}

/// What clients and backends may take of time and memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that one backend has at a time; more wait.
    pub in_flight: u32,
    /// Requests that wait for a backend.
    pub queue: usize,
    /// How long they wait.
    pub queue_timeout: Duration,
    /// Bytes of a request's body, which is kept until its answer has begun.
    pub body: usize,
    /// Bytes of an answer that is held back until it is whole; a longer one is passed on while it comes.
    pub answer: usize,
    /// Open connections of clients; more wait.
    pub connections: usize,
    /// For the head of a request, and between two requests of a connection.
    pub head_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
    /// Without a byte being taken by a client that has something to read.
    pub write_timeout: Duration,
    /// From a request's arrival to the head of its answer.
    pub request_timeout: Duration,
    /// Between two events of a stream.
    pub stall_timeout: Duration,
    /// For a backend to load or unload an adapter, which may have some gigabytes.
    pub adapter_timeout: Duration,
    /// For running requests after the balancer was told to end.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            queue: 1024,
            queue_timeout: Duration::from_secs(30),
            body: 16 << 20,
            answer: 4 << 20,
            connections: 8192,
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(1800),
            stall_timeout: Duration::from_secs(120),
            adapter_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(180),
        }
    }
}

/// What is wrong with a [`Config`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key that no client could send.
    #[error("api key: expected printable ASCII characters without spaces, found others or none")]
    Key,
    /// Not the address of a backend.
    #[error(
        "backend {url:?}: expected http://HOST:PORT without a path; put a TLS proxy before an https server"
    )]
    Backend {
        /// What was given.
        url: String,
    },
    /// Neither a backend nor a way to add one.
    #[error("backends: expected at least one, a file of them, or an admin key to add them with")]
    NoBackend,
    /// The same backend twice.
    #[error("backend {url}: expected once, found twice")]
    Twice {
        /// The address.
        url: String,
    },
    /// A limit of nothing.
    #[error("{name}: expected more than 0")]
    Zero {
        /// The field.
        name: &'static str,
    },
    /// A path that cannot be asked for.
    #[error("health.path {path:?}: expected a path that starts with /")]
    HealthPath {
        /// What was given.
        path: String,
    },
}

impl Config {
    /// A balancer over these servers, with every protection and no key.
    #[must_use]
    pub fn new(backends: Vec<BackendUrl>) -> Self {
        Self {
            backends,
            backends_file: None,
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
            backend_key: None,
            backend_admin_key: None,
            workers: 1,
            prefix_affinity: false,
            health: Health::default(),
            retries: Retries::default(),
            limits: Limits::default(),
        }
    }

    pub(crate) fn validated(self) -> Result<Self, ConfigError> {
        if self.backends.is_empty() && self.backends_file.is_none() && self.admin_keys.is_empty() {
            return Err(ConfigError::NoBackend);
        }
        for (index, url) in self.backends.iter().enumerate() {
            if self.backends[..index].contains(url) {
                return Err(ConfigError::Twice {
                    url: url.as_str().to_owned(),
                });
            }
        }
        if self
            .health
            .path
            .parse::<hyper::http::uri::PathAndQuery>()
            .is_err()
            || !self.health.path.starts_with('/')
        {
            return Err(ConfigError::HealthPath {
                path: self.health.path,
            });
        }
        let sizes = [
            ("workers", self.workers),
            ("health.interval", self.health.interval.as_millis() as usize),
            ("health.timeout", self.health.timeout.as_millis() as usize),
            ("health.down", self.health.down as usize),
            ("health.up", self.health.up as usize),
            ("health.models", self.health.models.as_millis() as usize),
            ("limits.in_flight", self.limits.in_flight as usize),
            ("limits.body", self.limits.body),
            ("limits.connections", self.limits.connections),
        ];
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            Some((name, _)) => Err(ConfigError::Zero { name }),
            None => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_backend_twice_is_refused() {
        let url = BackendUrl::parse("http://a:1").unwrap();
        let error = Config::new(vec![url.clone(), url]).validated().unwrap_err();
        assert!(error.to_string().contains("http://a:1"));
        assert!(matches!(
            Config::new(Vec::new()).validated(),
            Err(ConfigError::NoBackend)
        ));
    }
}
