//! The fuzz targets' entry points over pieces of requests and streams, on the stable toolchain.

use proptest::prelude::*;
use proptest::sample::select;
use xgraft_balancer::fuzz;

const STREAM: [&str; 22] = [
    "\n",
    "\r\n",
    "\n\n",
    "data:",
    "data: ",
    ": ping",
    "event: e",
    "{\"choices\":[{\"index\":0,",
    "\"delta\":{},",
    "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},",
    "\"text\":\"\",",
    "\"text\":\"a\",",
    "\"created\":",
    "17",
    ",\"token_ids\":[",
    ",\"prompt_token_ids\":[",
    "1,2",
    "]",
    "\"logprobs\":null,\"finish_reason\":null",
    "\"finish_reason\":\"stop\"",
    "}]}",
    "[DONE]",
];

const REQUEST: [&str; 20] = [
    "{",
    "}",
    ",",
    " ",
    "\"seed\":",
    "\"stream\":true",
    "\"return_token_ids\":",
    "\"n\":1",
    "\"prompt\":[1,2]",
    "\"a\":{\"seed\":[{}]}",
    "\"\\u0073eed\":1",
    "\"b\":\"\\\"}\"",
    "\"logprobs\":true",
    "null",
    "true",
    "-1",
    "1e3",
    "[]",
    "\"é\"",
    "\"continue_from\":null",
];

fn pieces(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(select(of), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_stream_is_passed_on_however_it_comes(text in pieces(&STREAM), bytes in any::<Vec<u8>>()) {
        fuzz::stream(text.as_bytes());
        fuzz::stream(&bytes);
    }

    #[test]
    fn a_request_says_the_same_when_it_can_be_resumed(text in pieces(&REQUEST), members in prop::collection::vec(select(&REQUEST[..]), 0..5)) {
        fuzz::request(text.as_bytes());
        fuzz::request(format!("{{{}}}", members.join(",")).as_bytes());
    }
}
