//! Reading and writing the files.

use std::{error::Error as _, path::Path};
use xgraft_results::{Error, Finding, Manifest, Row, Tool, jsonl};

const GOOD: &str = r#"{"schema":"xgraft.row/1","metric":"m","value":1}"#;

fn read_rows(text: &str) -> Result<Vec<Row>, Error> {
    jsonl::read(text.as_bytes(), "rows.jsonl")
}

#[test]
fn rows_survive_a_file_to_the_last_bit() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("rows.jsonl");
    let rows: Vec<_> = [0.1 + 0.2, f64::MIN_POSITIVE, -0.0, 1e300, 2.0 / 3.0]
        .into_iter()
        .map(|value| Row::new("m", value).module("a \"quoted\"\nname"))
        .collect();
    jsonl::write_file(&path, &rows).expect("writes");
    let back: Vec<Row> = jsonl::read_file(&path).expect("reads");
    let bits = |rows: &[Row]| rows.iter().map(|r| r.value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(&rows));
    assert_eq!(back, rows);
}

#[test]
fn blank_lines_are_skipped_and_a_missing_last_newline_is_fine() {
    let rows = read_rows(&format!("\n{GOOD}\r\n   \n{GOOD}")).expect("reads");
    assert_eq!(rows.len(), 2);
}

#[test]
fn unknown_fields_are_ignored() {
    let line = r#"{"schema":"xgraft.row/1","metric":"m","value":1,"later":[]}"#;
    assert_eq!(read_rows(line).expect("reads"), [Row::new("m", 1.0)]);
}

#[test]
fn a_broken_line_is_named_by_file_and_number() {
    for bad in [
        "{",
        r#"{"schema":"xgraft.row/1","metric":"m"}"#,
        r#"{"schema":"xgraft.row/1","metric":"m","value":"1"}"#,
    ] {
        let error = read_rows(&format!("{GOOD}\n{bad}\n")).expect_err("is refused");
        assert_eq!(
            error.to_string(),
            "rows.jsonl:2: not a record of xgraft.row/1"
        );
        assert!(error.source().is_some());
    }
}

#[test]
fn another_schema_or_version_is_refused_by_name() {
    for (bad, found) in [
        (
            r#"{"schema":"xgraft.row/2","metric":"m","value":1}"#,
            r#""xgraft.row/2""#,
        ),
        (r#"{"metric":"m","value":1}"#, "none"),
        ("[1]", "none"),
    ] {
        let error = read_rows(bad).expect_err("is refused");
        assert_eq!(
            error.to_string(),
            format!("rows.jsonl:1: expected schema xgraft.row/1, found {found}")
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = jsonl::read_file::<Row>(Path::new("/nowhere/rows.jsonl")).expect_err("is refused");
    assert_eq!(error.to_string(), "cannot read /nowhere/rows.jsonl");
}

#[test]
fn numbers_that_json_cannot_hold_are_refused() {
    let rows = [
        Row::new("m", 0.0),
        Row::new("m", 1.0).interval(0.0, f64::INFINITY),
    ];
    let error = jsonl::write(&mut Vec::new(), &rows).expect_err("is refused");
    assert!(matches!(
        error,
        Error::NotFinite {
            index: 1,
            field: "hi",
            ..
        }
    ));
    let finding = Finding::info("c", "s", "m").value(f64::NAN);
    assert!(jsonl::write(&mut Vec::new(), &[finding]).is_err());
}

#[test]
fn manifests_survive_a_file_and_equal_ones_give_equal_bytes() {
    let manifest = Manifest {
        tool: Tool::new("xgraft", "0.1.0", Some("abc")),
        verb: "quantize".to_owned(),
        config: serde_json::json!({"scheme": "fp8-block"}),
        seed: None,
        inputs: Vec::new(),
    };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(Manifest::FILE);
    std::fs::write(&path, manifest.to_bytes().expect("encodes")).expect("writes");
    let back = Manifest::read(&path).expect("reads");
    assert_eq!(back, manifest);
    assert_eq!(
        back.to_bytes().expect("encodes"),
        std::fs::read(&path).expect("reads")
    );
}
