//! A reverse proxy over OpenAI-compatible servers: nothing is lost when one of them dies.
//!
//! Every request goes to the backend with the least requests in flight, and counts there until its last byte. What no
//! client has seen yet is asked of another backend when one fails. What a client has seen goes on at another backend
//! token for token, if both can continue from token ids; else it ends with an error inside the stream.
//!
//! The hot path has no lock and copies no body: a worker is one thread with its own connections to the backends; a request's
//! JSON is scanned for a few fields, never parsed into a tree and written again. The alternative, a work-stealing
//! runtime over a shared pool, moves every request between threads twice.
//!
//! Modules: `backend` and `backends` (who is there, who is next, who waits), `health`, `scan` and `events` (bytes of
//! requests and of streams), `upstream` (one exchange, over a socket of `net`), `forward` and `judge` (the exchanges of one request),
//! `incoming` and `relay` (its answer),
//! `resume` (token ids), `fleet` (processes), `http` (connections, keys, routes, status).
//!
//! Architecture invariants: a stream that was cut never ends in `[DONE]`; only what may be done twice is done twice;
//! bodies are neither logged nor stored; nothing of a body but the named fields is interpreted.

mod access;
mod backend;
mod backends;
mod budget;
mod clock;
mod config;
mod error;
mod events;
mod file;
pub mod fleet;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod headers;
mod health;
mod http;
mod incoming;
mod judge;
mod metrics;
mod models;
mod net;
mod record;
mod relay;
mod resume;
mod scan;
mod shared;
#[cfg(test)]
mod simulation;
mod upstream;

pub use access::LogWriter;
pub use config::{ApiKey, BackendUrl, Config, ConfigError, Health, Limits, Retries};
pub use error::Error;
pub use http::serve;
