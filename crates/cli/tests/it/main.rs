//! The binary from outside: what it prints, where, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../eval/tests/it/endpoint.rs"]
mod endpoint;
mod autopsy;
mod bad_formats;
mod bad_input;
mod balance;
mod calibrate;
mod card;
mod eval;
mod eval_stats;
mod hostile;
mod labels;
mod original;
mod orthogonality;
mod serve;
mod support;
mod verbs;
