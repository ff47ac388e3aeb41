//! Files as they come, and as they should not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod jsonl;
mod parquet;
