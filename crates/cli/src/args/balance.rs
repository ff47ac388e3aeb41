//! Arguments of `xgraft balance`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use xgraft_balancer::BackendUrl;

use super::{Listen, Pool, parse_bytes, parse_time};

/// Put one address before several OpenAI-compatible servers, and lose nothing when one of them dies.
///
/// Each request goes to the backend with the least requests in flight. One that fails is asked of another
/// backend as long as the client has seen nothing of the answer; a stream that breaks later goes on at another
/// xgraft server token for token, or ends with an error event. See `/` for the state of all backends.
/// Without --api-key, clients' own keys go on to the backends; without --admin-key there is no `/admin`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Balance {
    /// A server, `http://HOST:PORT`; once for each.
    #[arg(long = "backend", value_name = "URL", value_parser = parse_url)]
    pub(crate) backends: Vec<BackendUrl>,
    /// A file with one URL a line, followed when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) backends_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) listen: Listen,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// The key that the backends want.
    #[arg(
        long,
        value_name = "KEY",
        env = "XGRAFT_BACKEND_KEY",
        hide_env_values = true
    )]
    pub(crate) backend_key: Option<String>,
    /// The key that the backends want for loading adapters, if it is another.
    #[arg(
        long,
        value_name = "KEY",
        env = "XGRAFT_BACKEND_ADMIN_KEY",
        hide_env_values = true
    )]
    pub(crate) backend_admin_key: Option<String>,
    /// Requests that a backend has at a time; more wait.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) max_in_flight: u32,
    /// Requests that wait at most.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) max_waiting: usize,
    /// How long a request waits for a backend.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "30s")]
    pub(crate) queue_timeout: Duration,
    /// How long an answer may take to begin.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "30m")]
    pub(crate) request_timeout: Duration,
    /// How long an answer that has begun may stand still.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "2m")]
    pub(crate) stall_timeout: Duration,
    /// How long running requests have when the balancer is asked to end.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "3m")]
    pub(crate) drain_timeout: Duration,
    /// The largest request.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "16MiB")]
    pub(crate) max_body: u64,
    /// What is asked of a backend to know whether it is well.
    #[arg(long, value_name = "PATH", default_value = "/health")]
    pub(crate) health_path: String,
    /// How often it is asked.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "2s")]
    pub(crate) health_interval: Duration,
    /// How long it has for the answer.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1s")]
    pub(crate) health_timeout: Duration,
    /// Clients at once; more wait to be let in. By default as many as two open files each allow, and 8192 at most.
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<usize>,
    /// How long a backend has to load or unload an adapter.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "5m")]
    pub(crate) adapter_timeout: Duration,
    /// How long a backend that came back has less than its share.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "2s")]
    pub(crate) slow_start: Duration,
    /// Times that one request may be asked again after a backend had begun to work on it.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) replays: u32,
    /// Of these, times after the connection broke under it: a request that ends its server ends one more than these.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) losses: u32,
    /// Send requests that begin alike to the same backend where it has no more in flight than the others.
    #[arg(long)]
    pub(crate) prefix_affinity: bool,
    /// Append a line of JSON for every request to this file, which is opened anew at SIGHUP; `-` for stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) pool: Pool,
}

fn parse_url(text: &str) -> Result<BackendUrl, String> {
    BackendUrl::parse(text).map_err(|error| error.to_string())
}
