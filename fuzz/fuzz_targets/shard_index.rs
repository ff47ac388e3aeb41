//! The text of `model.safetensors.index.json`.
#![no_main]

#[path = "../../crates/checkpoint/tests/it/entry.rs"]
#[allow(dead_code, reason = "each target runs one of the entry functions")]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::shard_index(bytes));
