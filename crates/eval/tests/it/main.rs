//! The harness from outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod endpoint;
mod rewards;
mod runs;
