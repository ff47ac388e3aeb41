//! What a model said: reasoning, content and calls are the same whether it comes whole or in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| xgraft_server::fuzz::answer(text));
