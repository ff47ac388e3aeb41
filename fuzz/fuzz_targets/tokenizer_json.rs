//! A whole `tokenizer.json`.
#![no_main]

#[path = "../../crates/tokenizer/tests/it/entry.rs"]
#[allow(dead_code, reason = "each target runs one of the entry functions")]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::tokenizer_json(bytes));
