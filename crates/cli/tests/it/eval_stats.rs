//! `xgraft eval`: statistics of published counts and of runs, and the annotation of a run by a scripted judge.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{fixture, stderr, succeed, xgraft};

fn published() -> String {
    fixture("published/results.json")
}

#[test]
fn the_published_table_and_the_verdict_of_every_claim_are_printed() {
    let text = succeed(&["eval", "stats", &published()]);
    for (arm, macro_mean, micro) in [
        ("baseline_bf16", "44.5", "47.1"),
        ("method_a_r256", "44.6", "46.2"),
        ("method_b_r256", "29.5", "31.4"),
        ("method_c_fp8", "41.4", "42.5"),
        ("qwen3_bf16", "22.1", "22.6"),
    ] {
        let line = text.lines().find(|line| line.starts_with(arm)).unwrap();
        assert!(line.contains(micro) && line.contains(macro_mean), "{line}");
    }
    let verdict = |claim: &str| text.lines().find(|line| line.starts_with(claim)).unwrap();
    assert!(verdict("method_a_r256 equals baseline_bf16").contains("undecided"));
    assert!(verdict("prediction: method_a_r256 retains more than 95 %").contains("undecided"));
    assert!(verdict("prediction: method_b_r256 retains less than 80 %").contains("holds"));
    assert!(verdict("prediction: method_c_fp8 retains more than 90 %").contains("undecided"));
    // No test of equality passes, so the word does not appear.
    assert!(!text.contains("parity"), "{text}");
}

#[test]
fn a_directory_has_report_rows_and_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("stats");
    let printed = succeed(&[
        "eval",
        "stats",
        &published(),
        "--out",
        out.to_str().unwrap(),
        "--json",
    ]);
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report["schema"], "xgraft.eval-stats/1");
    let rows = std::fs::read_to_string(out.join("rows.jsonl")).unwrap();
    assert_eq!(
        rows.lines().count(),
        report["rows"].as_array().unwrap().len()
    );
    for file in ["manifest.json", "report.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
}

/// A finished attempt as a run writes it.
fn attempt(question: usize, arm: &str, said: &str, is_right: bool) -> Value {
    json!({
        "schema": "xgraft.trajectory/1",
        "question": question.to_string(),
        "task": "sums",
        "model": arm,
        "arm": arm,
        "run": "0",
        "seed": 0,
        "messages": [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": said}],
        "answer": said,
        "reference": "2",
        "score": f64::from(u8::from(is_right)),
        "class": if is_right { "right" } else { "wrong" },
        "executions": 0,
    })
}

#[test]
fn a_page_has_the_figures_and_every_question_and_loads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arm: &str, right: usize| {
        let said = |i: usize| if i < right { "2" } else { "</script>3" };
        let rows: String = (0..8)
            .map(|i| format!("{}\n", attempt(i, arm, said(i), i < right)))
            .collect();
        let path = dir.path().join(format!("{arm}.jsonl"));
        std::fs::write(&path, rows).unwrap();
        format!("{arm}={}", path.display())
    };
    let (base, tuned) = (run("base", 2), run("tuned", 7));
    let out = dir.path().join("page");
    let said = succeed(&[
        "eval",
        "report",
        &tuned,
        &base,
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(said.starts_with("report: "), "{said}");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("87.5 %") && page.contains("25.0 %"));
    assert!(page.contains("id=\"packed\"") && page.ends_with("</html>\n"));
    // The namespace of figures is a name, not an address; what a model said is packed.
    let loads = page.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !loads.contains("http://") && !loads.contains("https://") && !loads.contains("</script>3")
    );
    for file in ["report.json", "rows.jsonl", "manifest.json", "report.md"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let counts = dir.path().join("counts");
    succeed(&[
        "eval",
        "report",
        &published(),
        "--out",
        counts.to_str().unwrap(),
    ]);
    let page = std::fs::read_to_string(counts.join("report.html")).unwrap();
    assert!(page.contains("44.5 %") && !page.contains("id=\"packed\""));
}

#[test]
fn bad_results_are_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let said = |name: &str, text: &str, more: &[&str]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let output = xgraft(&[&["eval", "stats", path.to_str().unwrap()], more].concat());
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(text.starts_with("error: ") && text.contains(name), "{text}");
        assert!(!text.contains("panicked"));
        text
    };
    assert!(said("a.json", "{", &[]).contains("not a file of results"));
    assert!(
        said("b.jsonl", "{\"schema\": \"xgraft.traj", &[])
            .contains("b.jsonl:1: the last line ends in its middle")
    );
    assert!(
        said(
            "c.jsonl",
            "{\"schema\": \"xgraft.trajectory/1\", \"question\": \"1\"}\n",
            &[]
        )
        .contains("column `task` is missing")
    );
    let output = xgraft(&["eval", "stats", &published(), "--task", "poetry"]);
    assert!(stderr(&output).contains("unknown task poetry, expected one of crispr_delivery"));
    let output = xgraft(&["eval", "stats", &published(), "--reference", "x"]);
    assert!(stderr(&output).contains("unknown arm x, expected one of baseline_bf16"));
    let output = xgraft(&["eval", "stats", &published(), "--kl", "x=nowhere"]);
    assert!(stderr(&output).contains("--kl x: no arm of this name was given"));
    assert_eq!(
        xgraft(&["eval", "stats", &published(), "--pair", "method_a_r256"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        xgraft(&["eval", "stats", &published(), "--margin", "2"])
            .status
            .code(),
        Some(2)
    );
}

/// A run of six questions: two settled by rules, four that somebody has to read.
fn run_folder(dir: &Path) -> PathBuf {
    let run = dir.join("run");
    std::fs::create_dir_all(run.join("events")).unwrap();
    let mut lines = String::new();
    for (question, said, class) in [
        ("1", "<solution>BRCA1</solution>", "right"),
        ("2", "<solution>TP53</solution>", "wrong"),
        ("3", "<solution>it is the gene BRCA1</solution>", "wrong"),
        ("4", "<solution>it is the gene TP53</solution>", "wrong"),
        ("5", "<solution>the answer: BRCA1</solution>", "wrong"),
        ("6", "<solution>say nonsense please</solution>", "wrong"),
    ] {
        let trajectory = json!({"schema": "xgraft.trajectory/1", "question": question, "task": "genes", "model": "m", "arm": "tuned",
            "run": "0", "seed": 0, "class": class, "reference": "BRCA1", "answer": said, "messages": [
                {"role": "user", "content": "Which gene?"}, {"role": "assistant", "content": said}]});
        let event = json!({"schema": "xgraft.event/1", "at": 1.0, "event": "answer", "generation": 0, "trajectory": trajectory});
        lines += &format!("{event}\n");
    }
    std::fs::write(run.join("events/p.jsonl"), lines).unwrap();
    run
}

/// An endpoint that judges by whether the gene stands in the extracted answer, and counts how often it is asked.
fn scripted_judge() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let count = Arc::clone(&count);
            std::thread::spawn(
                move || while let Some(()) = answer(stream.as_ref().unwrap(), &count) {},
            );
        }
    });
    (url, asked)
}

fn answer(stream: &TcpStream, count: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    count.fetch_add(1, Ordering::SeqCst);
    let request: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(request["temperature"], 0.0);
    let prompt = request["messages"][1]["content"].as_str().unwrap();
    let extracted = prompt.split("Extracted answer:\n").nth(1).unwrap();
    let extracted = extracted.split("\n\n").next().unwrap();
    let content = if extracted.contains("nonsense") {
        "Label: 1, I think".to_owned()
    } else {
        json!({"label": u8::from(extracted.contains("BRCA1")), "reason": "by the gene"}).to_string()
    };
    let reply = json!({"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        reply.len()
    );
    (&*stream).write_all((head + &reply).as_bytes()).ok()
}

#[test]
fn a_judge_labels_what_the_rules_leave_and_both_accuracies_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_folder(dir.path());
    let run = run.to_str().unwrap();
    let (url, asked) = scripted_judge();
    let args = [
        "eval",
        "annotate",
        run,
        "--judge",
        &url,
        "--judge-model",
        "scripted",
        "--per-minute",
        "60000",
        "--json",
    ];
    let first: Value = serde_json::from_str(&succeed(&args)).unwrap();
    // Four open answers; the nonsense is asked for three times and stays without a label.
    assert_eq!(asked.load(Ordering::SeqCst), 6);
    assert_eq!(
        (
            &first["judging"][0]["asked"],
            &first["judging"][0]["unlabelled"]
        ),
        (&json!(4), &json!(1))
    );
    let arm = &first["arms"][0];
    assert_eq!(
        (
            &arm["strict"]["right"],
            &arm["judged"]["right"],
            &arm["judged"]["n"]
        ),
        (&json!(1), &json!(3), &json!(6))
    );
    assert_eq!(
        (
            &arm["by"]["triage"],
            &arm["by"]["judge"],
            &arm["by"]["nobody"]
        ),
        (&json!(2), &json!(3), &json!(1))
    );
    // The official score finds no gene in a sentence, and the judge does.
    let agreed = &arm["judge_strict"];
    assert_eq!(
        (&agreed["n"], &agreed["observed"]),
        (&json!(3), &json!(1.0 / 3.0))
    );
    // What is known is not asked again.
    succeed(&args);
    assert_eq!(asked.load(Ordering::SeqCst), 9);
    let text = succeed(&["eval", "stats", run]);
    assert!(
        text.contains("tuned: strict above; judged: micro 50.0 % (3 of 6)"),
        "{text}"
    );
    let judged = succeed(&["eval", "stats", run, "--score", "judged"]);
    assert!(
        judged.contains("tuned: judged above; strict: micro 16.7 % (1 of 6)"),
        "{judged}"
    );
}

#[test]
fn a_judge_that_is_down_is_a_clear_error_and_the_rules_still_hold() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_folder(dir.path());
    let run = run.to_str().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let output = xgraft(&[
        "eval",
        "annotate",
        run,
        "--judge",
        &url,
        "--judge-model",
        "j",
        "--per-minute",
        "60000",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("the judge j cannot be asked")
            && text.contains("run the same command to go on"),
        "{text}"
    );
    let text = succeed(&["eval", "annotate", run]);
    assert!(text.contains("nobody has reviewed"), "{text}");
    let output = xgraft(&[
        "eval",
        "stats",
        "--score",
        "judged",
        &fixture("tiny-qwen3-text/eval1_mini.jsonl"),
    ]);
    assert!(
        stderr(&output).contains("run `xgraft eval annotate` first"),
        "{}",
        stderr(&output)
    );
}
