//! Any text comes back, and long ones take time in proportion.

use proptest::prelude::*;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use xgraft_fixtures::TEXT;
use xgraft_tokenizer::{Error, Tokenizer};

static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::open(TEXT.base()).expect("opens"));

/// Pieces that tokens and cuts are made of.
fn text() -> impl Strategy<Value = String> {
    let parts = [
        "<|im_start|>",
        "<|im_",
        "end|>",
        "<think>",
        "\0",
        "\r\n",
        "   ",
        "\u{3000}",
        "e\u{301}",
        "🧬",
        "12",
        "'s",
        "Ġ",
        "ENSG0",
    ];
    let part = prop_oneof![
        prop::sample::select(parts.to_vec()).prop_map(str::to_owned),
        any::<String>()
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_text_comes_back(text in text()) {
        let ids = TOKENIZER.encode(&text, false).expect("encodes");
        prop_assert_eq!(TOKENIZER.decode(&ids, false).expect("decodes"), text.as_str());
        let bytes: Vec<u8> = ids.iter().flat_map(|id| TOKENIZER.token_bytes(*id).expect("a token").to_vec()).collect();
        prop_assert_eq!(bytes, text.into_bytes());
    }
}

#[test]
fn special_tokens_are_known_by_text_id_and_kind() {
    for (text, id, special) in [
        ("<|endoftext|>", 1011, true),
        ("<|im_end|>", 1013, true),
        ("<think>", 1014, false),
    ] {
        assert_eq!(TOKENIZER.token_id(text), Some(id));
        assert_eq!(TOKENIZER.token_bytes(id), Some(text.as_bytes()));
        assert_eq!(TOKENIZER.is_special(id), special);
    }
    assert_eq!(TOKENIZER.vocab_size(), 1024);
    let space = TOKENIZER.token_id("Ġ").expect("a token");
    assert_eq!(TOKENIZER.token_bytes(space), Some(&b" "[..]));
}

#[test]
fn ten_megabytes_of_one_character_take_time_in_proportion() {
    // About 0.25 s a megabyte here; a quadratic search would take hours.
    const ENOUGH: Duration = Duration::from_secs(60);
    let tokenizer = Tokenizer::open(TEXT.base())
        .expect("opens")
        .with_text_limit(usize::MAX);
    for unit in ["a", " "] {
        let text = unit.repeat(10 << 20);
        let start = Instant::now();
        let ids = tokenizer.encode(&text, false).expect("encodes");
        assert_eq!(tokenizer.decode(&ids, false).expect("decodes"), text);
        assert!(start.elapsed() < ENOUGH, "{unit:?}: {:?}", start.elapsed());
    }
}

#[test]
fn a_text_beyond_the_limit_is_refused() {
    let tokenizer = Tokenizer::open(TEXT.base())
        .expect("opens")
        .with_text_limit(3);
    assert!(tokenizer.encode("abc", false).is_ok());
    let error = tokenizer.encode("abcd", false).expect_err("too long");
    assert!(matches!(error, Error::TextTooLong { limit: 3, found: 4 }));
}
