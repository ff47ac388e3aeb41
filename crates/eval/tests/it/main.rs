//! The harness from outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agents;
mod annotate;
mod browser;
mod endpoint;
mod hostile;
mod killed;
mod review;
mod rewards;
mod runs;
mod stats;
