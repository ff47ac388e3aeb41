//! The balancer on real sockets over scripted backends.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod balancer;
mod chaos;
mod client;
mod failover;
mod hostile;
mod leaving;
mod manage;
mod resume;
mod scripted;
