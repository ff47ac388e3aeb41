//! The fuzz targets' entry points over fixed mutations, on the stable toolchain.

use crate::chat::CALL;

const REQUESTS: [&str; 3] = [
    r#"{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant",
        "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\": 1}"}}]}], "tools": [{"type": "function",
        "function": {"name": "f", "parameters": {"type": "object"}}}], "stream": true, "stream_options": {"include_usage": true}}"#,
    r#"{"prompt": [1, 2], "temperature": 0.5, "top_p": 1e-3, "top_k": -1, "logit_bias": {"5": -1.5}, "seed": -1, "stop": ["a"],
        "n": 2, "logprobs": 5, "max_tokens": 10, "min_tokens": 2, "stop_token_ids": [3], "prompt_logprobs": 1}"#,
    r#"{"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "structured_outputs": {"regex": "a", "choice": ["a"]}, "continue_from": {"token_ids": [1], "choice": 0}, "seed": 1}"#,
];

/// A generator of numbers of no quality.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// Cuts, doubles, swaps or replaces a piece.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let (from, length) = (self.below(bytes.len()), self.below(12));
        let to = (from + length).min(bytes.len());
        let piece = bytes[from..to].to_vec();
        match self.below(4) {
            0 => drop(bytes.drain(from..to)),
            1 => drop(bytes.splice(from..from, piece)),
            2 => bytes[from..to].reverse(),
            _ => {
                let values: [&[u8]; 8] = [
                    b"null",
                    b"-1",
                    b"1e400",
                    b"[]",
                    b"{}",
                    b"\"\\ud800\"",
                    b"\"\\u0000\"",
                    b"99999999999999999999",
                ];
                let value = values[self.below(values.len())];
                drop(bytes.splice(from..to, value.iter().copied()));
            }
        }
    }
}

#[test]
fn a_mutated_request_is_refused_or_understood() {
    let mut numbers = Numbers(1);
    for round in 0..30_000 {
        let mut bytes = REQUESTS[round % REQUESTS.len()].as_bytes().to_vec();
        for _ in 0..=numbers.below(4) {
            numbers.mutate(&mut bytes);
        }
        xgraft_server::fuzz::request(&bytes);
    }
}

#[test]
fn a_mutated_answer_is_split_alike_whole_and_in_pieces() {
    let answer = format!("<think>\nwhy µ\n</think>\n\nI look.\n{CALL}\n{CALL}\n done");
    let mut numbers = Numbers(2);
    for _ in 0..10_000 {
        let mut bytes = answer.as_bytes().to_vec();
        for _ in 0..=numbers.below(4) {
            numbers.mutate(&mut bytes);
        }
        xgraft_server::fuzz::answer(&String::from_utf8_lossy(&bytes));
    }
}
