//! Files as they come, and as they should not.

mod jsonl;
mod parquet;
