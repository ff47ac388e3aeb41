//! A whole safetensors file, held against the `safetensors` library.
#![no_main]

#[path = "../../crates/checkpoint/tests/it/entry.rs"]
#[allow(dead_code, reason = "each target runs one of the entry functions")]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::safetensors_header(bytes));
