//! The harness from outside.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it saw"
)]

mod agents;
mod annotate;
mod browser;
mod endpoint;
mod host;
mod hostile;
mod killed;
mod outputs;
mod review;
mod rewards;
mod runs;
mod stats;
