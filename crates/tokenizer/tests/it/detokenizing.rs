//! One id at a time gives what all ids at once give.

use proptest::prelude::*;
use std::sync::LazyLock;
use xgraft_fixtures::TEXT;
use xgraft_tokenizer::{Error, TokenId, Tokenizer};

static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::open(TEXT.base()).expect("opens"));

/// Any id, but half of the time one of a single byte above 0x7f: parts of characters.
fn id() -> impl Strategy<Value = TokenId> {
    let bytes: Vec<TokenId> = (0..1024)
        .filter(|id| {
            TOKENIZER
                .token_bytes(*id)
                .is_some_and(|b| b.len() == 1 && b[0] > 0x7f)
        })
        .collect();
    prop_oneof![0..1024u32, prop::sample::select(bytes)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pushes_and_the_end_make_the_whole(ids in prop::collection::vec(id(), 0..40), skip: bool) {
        let mut detokenizer = TOKENIZER.detokenizer(skip);
        let mut text = String::new();
        for id in &ids {
            text.push_str(&detokenizer.push(*id).expect("of the vocabulary"));
            prop_assert!(detokenizer.pending().len() < 4);
        }
        text.push_str(&detokenizer.finish());
        prop_assert_eq!(text, TOKENIZER.decode(&ids, skip).expect("of the vocabulary"));
    }

    #[test]
    fn a_whole_text_is_never_replaced(text: String) {
        let mut detokenizer = TOKENIZER.detokenizer(false);
        let mut back = String::new();
        for id in TOKENIZER.encode(&text, false).expect("encodes") {
            back.push_str(&detokenizer.push(id).expect("of the vocabulary"));
        }
        prop_assert_eq!(back, text);
        prop_assert_eq!(detokenizer.finish(), "");
    }
}

#[test]
fn a_character_comes_when_it_is_complete() {
    let ids: Vec<TokenId> = TOKENIZER.encode("🧬", false).expect("encodes");
    assert_eq!(ids.len(), 4);
    let mut detokenizer = TOKENIZER.detokenizer(true);
    for id in &ids[..3] {
        assert_eq!(detokenizer.push(*id).expect("of the vocabulary"), "");
    }
    assert_eq!(detokenizer.pending(), &"🧬".as_bytes()[..3]);
    let mut cut_short = detokenizer.clone();
    assert_eq!(detokenizer.push(ids[3]).expect("of the vocabulary"), "🧬");
    let a = TOKENIZER.token_id("a").expect("a token");
    assert_eq!(cut_short.push(a).expect("of the vocabulary"), "\u{fffd}a");
    assert_eq!(cut_short.finish(), "");
}

#[test]
fn an_id_beyond_the_vocabulary_is_an_error_and_changes_nothing() {
    let mut detokenizer = TOKENIZER.detokenizer(true);
    for id in [1024, TokenId::MAX] {
        let error = detokenizer.push(id).expect_err("no such token");
        assert!(matches!(error, Error::UnknownId { id: found, vocab_size: 1024 } if found == id));
        assert!(TOKENIZER.decode(&[0, id], false).is_err());
        assert!(TOKENIZER.token_bytes(id).is_none() && !TOKENIZER.is_special(id));
    }
    assert_eq!(detokenizer.finish(), "");
}
