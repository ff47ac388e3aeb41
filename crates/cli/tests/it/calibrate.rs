//! `xgraft calibrate build`

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{fixture, stderr, succeed, xgraft};

/// 40 right attempts at two tasks, and as many wrong ones.
fn results(dir: &Path) -> String {
    let mut lines = String::new();
    for number in 0..80_u64 {
        let words: Vec<String> = (0..50)
            .map(|w| format!("w{}", (number * 7919 + w * 104_729) % 9973))
            .collect();
        let row = json!({"schema": "xgraft.trajectory/1", "question": format!("c{number}"), "task": format!("t{}", number / 2 % 2),
            "model": "m", "arm": "tuned", "run": "0", "seed": 0, "class": if number % 2 == 0 { "right" } else { "wrong" },
            "messages": [{"role": "user", "content": format!("Which of {}?", words[0])}, {"role": "assistant", "content": words.join(" ")}]});
        lines += &format!("{row}\n");
    }
    let path = dir.join("answers.jsonl");
    std::fs::write(&path, lines).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What builds a set of these results with the fixture's tokenizer, with more arguments.
fn build<'a>((results, out, base): (&'a str, &'a Path, &'a str), more: &[&'a str]) -> Vec<&'a str> {
    let out = out.to_str().unwrap();
    let head = [
        "calibrate",
        "build",
        results,
        "--out",
        out,
        "--tokenizer",
        base,
    ];
    [&head[..], more].concat()
}

#[test]
fn a_set_comes_with_samples_preview_and_provenance() {
    let dir = tempfile::tempdir().unwrap();
    let (results, out) = (results(dir.path()), dir.path().join("set"));
    let base = fixture("tiny-qwen3-text/base");
    let questions = fixture("tiny-qwen3-text/eval1_mini.jsonl");
    let text = succeed(&build(
        (&results, &out, &base),
        &[
            "--evaluation",
            &questions,
            "--samples",
            "10",
            "--max-tokens",
            "100",
        ],
    ));
    assert!(text.contains("10 samples of 80 rows"), "{text}");
    let samples = std::fs::read_to_string(out.join("samples.jsonl")).unwrap();
    let samples: Vec<Value> = samples
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(samples.len(), 10);
    for sample in &samples {
        assert_eq!(sample["schema"], "xgraft.calibration/1");
        let question = sample["provenance"]["question"].as_str().unwrap();
        let question: u64 = question.strip_prefix('c').unwrap().parse().unwrap();
        assert_eq!(question % 2, 0, "only right answers");
    }
    for file in [
        "manifest.json",
        "report.json",
        "rows.jsonl",
        "findings.jsonl",
        "preview.html",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
}

#[test]
fn a_set_that_nobody_checked_against_the_evaluation_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let (results, out) = (results(dir.path()), dir.path().join("set"));
    let base = fixture("tiny-qwen3-text/base");
    let set = (results.as_str(), out.as_path(), base.as_str());
    let output = xgraft(&build(set, &[]));
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("no evaluation set was given")
            && text.contains("hint: give --evaluation FILE"),
        "{text}"
    );
    assert!(!out.exists());
    succeed(&build(set, &["--allow-contamination"]));
}

#[test]
fn a_set_with_evaluation_questions_is_refused_with_a_hint_that_builds_a_clean_one() {
    let dir = tempfile::tempdir().unwrap();
    let (results, out) = (results(dir.path()), dir.path().join("set"));
    let base = fixture("tiny-qwen3-text/base");
    // The prompt of c4 under another id.
    let question = json!({"id": "e0", "task": "t", "prompt": "which of W1757", "answer": "a"});
    let evaluation = dir.path().join("evaluation.jsonl");
    std::fs::write(&evaluation, format!("{question}\n")).unwrap();
    let evaluation = evaluation.to_str().unwrap();
    let set = (results.as_str(), out.as_path(), base.as_str());
    let head = build(set, &["--evaluation", evaluation, "--samples", "40"]);
    let text = stderr(&xgraft(&head));
    assert!(
        text.contains("question c4 has the prompt of question e0")
            && text.contains("hint: give --drop-leaks"),
        "{text}"
    );
    succeed(&[&head[..], &["--drop-leaks"]].concat());
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(report["leaks"], json!({"e0": 1}), "{report}");
    assert!(read("findings.jsonl").contains("1 attempts have something of 1 evaluation questions"));
    assert!(!read("samples.jsonl").contains("Which of w1757?"));
}
