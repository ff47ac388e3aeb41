//! Broken models and healthy ones: what is said of each.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bridges;
mod faults;
mod files;
mod healthy;
mod packed;
mod peers;
mod support;
