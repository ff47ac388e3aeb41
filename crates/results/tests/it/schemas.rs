//! What the types write is what the schema documents say.

use crate::schema::Schema;
use serde_json::{Value, json, to_value};
use xgraft_results::{Finding, Input, Manifest, Record, Row, Severity, Tool};

fn full_row() -> Row {
    Row::new("accuracy", 0.5)
        .unit("s")
        .n(3)
        .interval(0.25, 0.75)
        .arm("a")
        .model("m")
        .module("x.y")
        .task("t")
        .run("1")
        .source("eval")
}

fn manifest() -> Manifest {
    Manifest {
        tool: Tool::new("xgraft", "0.1.0", None),
        verb: "extract".to_owned(),
        config: json!({"rank": 32}),
        seed: Some(0),
        inputs: vec![Input {
            role: "base".to_owned(),
            tensor: Some("w".to_owned()),
            file: "model.safetensors".to_owned(),
            blake3: "0".repeat(64),
            bytes: 8,
        }],
    }
}

/// The least and the most that the type can write; the most must use every field that the document declares.
fn assert_fits<T: Record>(record: &str, least: &T, most: &T) {
    let schema = Schema::of(record);
    for value in [least, most] {
        let value = to_value(value).expect("serialises");
        assert_eq!(schema.faults(&value), [""; 0]);
        let back: T = serde_json::from_value(value.clone()).expect("deserialises");
        assert_eq!(to_value(back).expect("serialises"), value);
    }
    let most = to_value(most).expect("serialises");
    for example in schema.examples() {
        for field in example.as_object().expect("an object").keys() {
            assert!(most.get(field).is_some(), "no type writes `{field}`");
        }
    }
}

#[test]
fn rows_are_what_their_schema_says() {
    assert_fits("row", &Row::new("energy_kept", 1.0), &full_row());
}

#[test]
fn findings_are_what_their_schema_says() {
    let least = Finding::info("code", "subject", "message");
    let most = Finding::error("code", "subject", "message")
        .hint("hint")
        .value(0.5);
    assert_fits("finding", &least, &most);
}

#[test]
fn manifests_are_what_their_schema_says() {
    let least = Manifest {
        seed: None,
        inputs: Vec::new(),
        ..manifest()
    };
    assert_fits("manifest", &least, &manifest());
}

#[test]
fn every_example_fits_its_own_schema() {
    for record in ["row", "finding", "manifest", "question", "trajectory"] {
        let schema = Schema::of(record);
        assert!(!schema.examples().is_empty(), "{record} has an example");
        for example in schema.examples() {
            assert_eq!(schema.faults(example), [""; 0], "{record}");
        }
    }
}

#[test]
fn examples_of_rows_findings_and_manifests_are_read_by_the_types() {
    fn read<T: Record>(record: &str) {
        for example in Schema::of(record).examples() {
            serde_json::from_value::<T>(example.clone()).expect("the example is a record");
        }
    }
    read::<Row>("row");
    read::<Finding>("finding");
    read::<Manifest>("manifest");
}

#[test]
fn the_checker_sees_missing_undeclared_and_mistyped_fields() {
    let schema = Schema::of("row");
    let faults = |value: Value| schema.faults(&value).len();
    assert_eq!(
        faults(json!({"schema": "xgraft.row/1", "metric": "m", "value": 1})),
        0
    );
    assert_eq!(faults(json!({"schema": "xgraft.row/1", "metric": "m"})), 1);
    assert_eq!(
        faults(json!({"schema": "xgraft.row/2", "metric": 1, "value": 1, "x": 0})),
        3
    );
}

#[test]
fn severities_are_ordered_by_how_much_they_matter() {
    assert!(Severity::Info < Severity::Warning && Severity::Warning < Severity::Error);
}
