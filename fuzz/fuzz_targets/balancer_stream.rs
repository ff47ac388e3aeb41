//! A backend's stream is passed on whole, however it comes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xgraft_balancer::fuzz::stream(bytes));
