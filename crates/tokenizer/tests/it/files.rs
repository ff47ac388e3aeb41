//! Directories that are not as they should be are refused, with the file and the field.

use serde_json::{Value, json};
use tempfile::TempDir;
use xgraft_fixtures::{TEXT, TINY};
use xgraft_tokenizer::{Error, Tokenizer};

fn fixture() -> Value {
    let text = std::fs::read(TEXT.base().join("tokenizer.json")).expect("reads");
    serde_json::from_slice(&text).expect("is JSON")
}

fn open(json: &Value) -> Result<Tokenizer, Error> {
    Tokenizer::from_json(&serde_json::to_vec(json).expect("writes"))
}

/// The field and the value that a changed fixture is refused for.
fn refused(change: impl FnOnce(&mut Value)) -> (String, String) {
    let mut json = fixture();
    change(&mut json);
    match open(&json).expect_err("refused") {
        Error::Field { field, found, .. } => (field, found),
        other => panic!("expected a field, found {other}"),
    }
}

#[test]
fn another_kind_of_tokenizer_is_refused_by_name() {
    let (field, found) = refused(|json| json["decoder"] = json!({"type": "Metaspace"}));
    assert_eq!(
        (field.as_str(), found.as_str()),
        ("decoder.type", "\"Metaspace\"")
    );
    assert_eq!(
        refused(|json| json["model"] = json!({"type": "Unigram", "vocab": [["a", -1.0]]})).1,
        "\"Unigram\""
    );
    assert_eq!(
        refused(|json| json["normalizer"] = json!({"type": "Lowercase"})).0,
        "normalizer"
    );
    assert_eq!(
        refused(|json| json["model"]["dropout"] = json!(0.1)).0,
        "model.dropout"
    );
    assert_eq!(
        refused(|json| json["model"]["continuing_subword_prefix"] = json!("##")).0,
        "model.continuing_subword_prefix"
    );
    assert_eq!(
        refused(|json| json["post_processor"] = json!({"type": "BertProcessing"})).0,
        "post_processor.type"
    );
}

#[test]
fn ids_are_unique_small_and_those_that_encoding_gives() {
    assert!(
        refused(|json| json["model"]["vocab"]["!"] = json!(5))
            .1
            .contains("another token")
    );
    assert_eq!(
        refused(|json| json["model"]["vocab"]["!"] = json!(u32::MAX)).0,
        "model.vocab.!"
    );
    assert_eq!(
        refused(|json| json["added_tokens"][3]["id"] = json!(u32::MAX)).0,
        "added_tokens[3].id"
    );
    assert_eq!(
        refused(|json| json["added_tokens"][3]["id"] = json!(2000)),
        ("added_tokens.<think>".into(), "2000".into())
    );
    assert_eq!(
        refused(|json| json["added_tokens"][3]["id"] = json!(1013)).0,
        "added_tokens[3]"
    );
    assert_eq!(
        refused(|json| json["added_tokens"][3]["content"] = json!("")).0,
        "added_tokens[3].content"
    );
    let twice = br#"{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}, "decoder": {"type": "ByteLevel"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}}"#;
    let error = Tokenizer::from_json(twice).expect_err("twice").to_string();
    assert!(
        error.contains("`model.vocab.a`: expected one entry"),
        "{error}"
    );
}

#[test]
fn a_vocabulary_without_a_byte_is_refused() {
    let (field, found) = refused(|json| {
        let vocab = json["model"]["vocab"].as_object_mut();
        vocab.expect("an object").shift_remove("Ċ");
    });
    assert_eq!(
        (field.as_str(), found.as_str()),
        ("model.vocab", "none for byte 0x0a")
    );
}

#[test]
fn numbers_and_merges_that_cannot_be_are_refused() {
    for id in [json!(-1), json!(1e300), json!("7"), json!(1u64 << 40)] {
        let mut json = fixture();
        json["model"]["vocab"]["!"] = id;
        assert!(matches!(open(&json), Err(Error::Json { .. })));
    }
    assert_eq!(
        refused(|json| json["model"]["merges"][0] = json!("three of them")).0,
        "model.merges[0]"
    );
    let mut json = fixture();
    json["model"]["merges"][0] = json!(["a", "no such token"]);
    assert!(matches!(
        open(&json),
        Err(Error::Library { part: "model", .. })
    ));
}

#[test]
fn a_truncated_file_is_no_json_wherever_it_ends() {
    let text = std::fs::read(TEXT.base().join("tokenizer.json")).expect("reads");
    for end in (0..text.len() - 2).step_by(text.len() / 50) {
        assert!(
            matches!(Tokenizer::from_json(&text[..end]), Err(Error::Json { .. })),
            "{end}"
        );
    }
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::copy(
        TEXT.base().join("tokenizer.json"),
        dir.path().join("tokenizer.json"),
    )
    .expect("copies");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("writes");
    }
    dir
}

#[test]
fn tokens_that_only_the_configuration_has_are_added() {
    let config = r#"{"added_tokens_decoder": {"1025": {"content": "<b>"}, "1024": {"content": "<a>", "special": true}, "1014": {"content": "<think>"}}}"#;
    let dir = directory(&[("tokenizer_config.json", config)]);
    let tokenizer = Tokenizer::open(dir.path()).expect("opens");
    assert_eq!(
        tokenizer.encode("<b><a>", false).expect("encodes"),
        [1025, 1024]
    );
    assert_eq!(
        tokenizer.decode(&[1025, 1024], true).expect("decodes"),
        "<b>"
    );
    for bad in [
        r#"{"1030": {"content": "<gap>"}}"#,
        r#"{"x": {"content": "<a>"}}"#,
        r#"{"4294967295": {"content": "<a>"}}"#,
    ] {
        let dir = directory(&[(
            "tokenizer_config.json",
            &format!("{{\"added_tokens_decoder\": {bad}}}"),
        )]);
        assert!(
            matches!(Tokenizer::open(dir.path()), Err(Error::Field { .. })),
            "{bad}"
        );
    }
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = Tokenizer::open(dir.path()).expect_err("empty");
    assert!(
        matches!(&error, Error::Missing { dir: found } if found == dir.path()),
        "{error}"
    );
    let said = error.to_string();
    assert!(
        said.starts_with("expected a tokenizer.json in ") && said.contains("copy it"),
        "{said}"
    );
}

#[test]
fn the_tokens_around_a_text_are_those_of_the_post_processor() {
    let mut json = fixture();
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [1011], "tokens": ["<|endoftext|>"]}},
    });
    let tokenizer = open(&json).expect("opens");
    let plain = tokenizer.encode("a", false).expect("encodes");
    assert_eq!(
        tokenizer.encode("a", true).expect("encodes"),
        [vec![1011], plain].concat()
    );
    json["post_processor"]["special_tokens"]["<|endoftext|>"]["ids"] = json!([4000]);
    assert!(matches!(open(&json), Err(Error::Field { field, .. }) if field == "post_processor"));
}

#[test]
fn words_come_back_with_one_space_between_them() {
    let tokenizer = Tokenizer::open(TINY.base()).expect("words");
    let text = "<bos> <lab_bench_dbqa> phenotype3 11\t phenotype3  <sep>";
    let ids = tokenizer.encode(text, false).expect("encodes");
    assert_eq!(ids, [1, 9, 53, 45, 53, 2]);
    let decoded = tokenizer.decode(&ids, false).expect("decodes");
    assert_eq!(
        decoded,
        "<bos> <lab_bench_dbqa> phenotype3 11 phenotype3 <sep>"
    );
    let mut detokenizer = tokenizer.detokenizer(true);
    let pushed: Vec<String> = ids
        .iter()
        .map(|id| detokenizer.push(*id).expect("is there"))
        .collect();
    let skipped = [
        "",
        "<lab_bench_dbqa>",
        " phenotype3",
        " 11",
        " phenotype3",
        "",
    ];
    assert_eq!(pushed, skipped);
    assert_eq!(
        tokenizer.decode(&ids, true).expect("decodes"),
        pushed.concat()
    );
    assert_eq!(
        tokenizer.encode("gene3 poetry", false).expect("encodes"),
        [73, 127]
    );
}

#[test]
fn a_tokenizer_of_words_without_its_parts_is_refused_by_name() {
    let path = TINY.base().join("tokenizer.json");
    let json: Value = serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("parses");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut json = json.clone();
        change(&mut json);
        match open(&json).expect_err("refused") {
            Error::Field { field, .. } => field,
            other => panic!("expected a field, found {other}"),
        }
    };
    assert_eq!(
        refused(&|json| json["pre_tokenizer"] = json!({"type": "Whitespace"})),
        "pre_tokenizer.type"
    );
    assert_eq!(
        refused(&|json| json["decoder"] = json!({"type": "WordPiece"})),
        "decoder.type"
    );
    assert_eq!(
        refused(&|json| json["model"]["unk_token"] = json!("[UNK]")),
        "model.unk_token"
    );
    assert_eq!(
        refused(&|json| json["model"]["vocab"]["A"] = json!(25)),
        "model.vocab.B"
    );
}
