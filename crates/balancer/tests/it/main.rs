//! The balancer on real sockets over scripted backends.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and say what they saw"
)]

mod access_log;
mod balancer;
mod blame;
mod chaos;
mod client;
mod failover;
mod fuzz;
mod hostile;
mod leaving;
mod manage;
mod resume;
mod scripted;
