//! What the fuzz targets call, over the committed corpus and fixed mutations of it, on the stable toolchain.

use serde_json::{Value, json};
use xgraft_fixtures::TEXT;
use xgraft_tokenizer::{ChatTemplate, Conversation, Limits, Tokenizer};

/// A `tokenizer.json` from anywhere: refused, or a tokenizer that gives every text back.
pub(crate) fn tokenizer_json(data: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_json(data) else {
        return;
    };
    let text = "a  b\n12 'é🧬<|im_end|>\0";
    let ids = tokenizer.encode(text, true).expect("encodes");
    let mut detokenizer = tokenizer.detokenizer(false);
    let pushed: String = ids
        .iter()
        .map(|id| detokenizer.push(*id).expect("of the vocabulary"))
        .collect();
    assert_eq!(
        pushed + &detokenizer.finish(),
        tokenizer.decode(&ids, false).expect("decodes")
    );
}

/// A template from anywhere: refused, or rendered within its limits.
pub(crate) fn chat_template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(template) = ChatTemplate::from_source(source, serde_json::Map::new()) else {
        return;
    };
    let limits = Limits {
        fuel: 10_000,
        output_bytes: 100_000,
        ..Limits::default()
    };
    let messages = [
        json!({"role": "system", "content": "s"}),
        json!({"role": "user", "content": "é"}),
        json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1.5}}}]}),
    ];
    let tools = [json!({"type": "function", "function": {"name": "f"}})];
    let conversation = Conversation {
        tools: Some(&tools),
        ..Conversation::new(&messages)
    };
    if let Ok(text) = template.with_limits(limits).render(&conversation) {
        assert!(text.len() <= 100_000);
    }
}

/// Every prefix at a step, and single bytes exchanged.
fn mutations(data: &[u8], step: usize) -> impl Iterator<Item = Vec<u8>> {
    let cuts = (0..data.len()).step_by(step).map(|at| data[..at].to_vec());
    let swaps = (0..data.len()).step_by(step).flat_map(|at| {
        [b'"', b'0', b'9', b'{', b'}', b'-', 0xff].map(|byte| {
            let mut bad = data.to_vec();
            bad[at] = byte;
            bad
        })
    });
    cuts.chain(swaps)
}

#[test]
fn mutated_tokenizers_are_refused_or_work() {
    let text = std::fs::read(TEXT.base().join("tokenizer.json")).expect("reads");
    tokenizer_json(&text);
    let mut small: Value = serde_json::from_slice(&text).expect("is JSON");
    // The alphabet and the added tokens are enough, and mutations then hit more than merges.
    small["model"]["merges"] = json!([]);
    let small = serde_json::to_vec(&small).expect("writes");
    for bad in mutations(&small, 397) {
        tokenizer_json(&bad);
    }
}

#[test]
fn mutated_templates_are_refused_or_end() {
    let source = include_bytes!("../templates/elaborate.jinja");
    chat_template(source);
    for bad in mutations(source, 5) {
        chat_template(&bad);
    }
}
