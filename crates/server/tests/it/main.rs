//! The server on real sockets over a scripted engine.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod adapters;
mod cancel;
mod chat;
mod client;
mod completion;
mod continuation;
mod crowd;
mod double;
mod drain;
mod errors;
mod formats;
mod hostile;
mod keys;
mod mutated;
mod openapi;
mod server;
mod status;
mod stream;
mod whole;
