//! The binary from outside: what it prints, where, and how it ends.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it saw"
)]

mod autopsy;
mod bad_formats;
mod bad_input;
mod balance;
mod balance_chaos;
mod balance_files;
mod balance_page;
mod calibrate;
mod calibrate_stats;
mod card;
#[path = "../../../eval/tests/it/endpoint.rs"]
mod endpoint;
mod eval;
mod eval_stats;
mod fleet;
mod labels;
mod original;
mod orthogonality;
mod parity;
mod process;
mod serve;
mod support;
mod verbs;
