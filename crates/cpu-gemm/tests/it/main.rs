//! Integration tests: one module per promise.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod bytes;
mod sources;
