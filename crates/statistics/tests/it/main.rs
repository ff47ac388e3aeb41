//! The statistics against the reference implementations, and against what must always hold.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;
mod properties;
