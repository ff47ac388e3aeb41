//! Integration tests: one module per promise.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod accuracy;
mod determinism;
mod hostile;
mod planted;
mod promises;
