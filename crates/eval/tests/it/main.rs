//! The harness from outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agents;
mod endpoint;
mod hostile;
mod killed;
mod rewards;
mod runs;
