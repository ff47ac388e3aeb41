//! A request that can be resumed says the same as the client's.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| xgraft_balancer::fuzz::request(body));
