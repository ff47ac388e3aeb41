//! The body of a request to `/v1/chat/completions` or `/v1/completions`: an error or parameters, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xgraft_server::fuzz::request(bytes));
