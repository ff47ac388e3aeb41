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

/// What runs the asynchronous part of a test.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
