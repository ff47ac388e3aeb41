//! `verify --original`.

use serde_json::Value;

use crate::support::{copy, fixture, stderr, succeed, xgraft};

#[test]
fn the_original_base_is_in_the_account_and_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (base, tuned) = (fixture("tiny-qwen3/base"), fixture("tiny-qwen3/tuned"));
    let pair = ["--base", &base, "--tuned", &tuned];
    succeed(&["quantize", &base, "--scheme", "int4", "--out", &at("q")]);
    succeed(
        &[
            ["extract"].as_slice(),
            &pair,
            &["--rank", "8", "--out", &at("a")],
        ]
        .concat(),
    );
    copy(&base, &folder.path().join("o"));
    let (q, a, o, v) = (at("q"), at("a"), at("o"), at("v"));
    let verify = [
        "verify",
        "--base",
        &q,
        "--tuned",
        &tuned,
        "--original",
        &o,
        "--adapter",
        &a,
    ];
    succeed(&[verify.as_slice(), &["--out", &v]].concat());
    let manifest = std::fs::read_to_string(at("v/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let inputs = manifest["inputs"].as_array().unwrap();
    let read = |role: &str| inputs.iter().filter(|i| i["role"] == role).count();
    assert_eq!(read("original"), 21);
    assert_eq!(manifest["config"]["original"], true);

    let over = xgraft(&[verify.as_slice(), &["--out", &o, "--force"]].concat());
    assert_eq!(over.status.code(), Some(1), "{}", stderr(&over));
    assert!(folder.path().join("o/config.json").is_file());
}
