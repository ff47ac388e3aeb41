//! The text of `adapter_config.json`, and the same bytes as a `config.json`.
#![no_main]

#[path = "../../crates/checkpoint/tests/it/entry.rs"]
#[allow(dead_code, reason = "each target runs one of the entry functions")]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::adapter_config(bytes));
