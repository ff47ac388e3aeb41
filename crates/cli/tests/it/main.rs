//! The binary from outside: what it prints, where, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod autopsy;
mod bad_formats;
mod bad_input;
mod balance;
mod card;
#[path = "../../../eval/tests/it/endpoint.rs"]
mod endpoint;
mod eval;
mod labels;
mod original;
mod orthogonality;
mod serve;
mod support;
mod verbs;
