//! Sets built of files of trajectories.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod observe;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use xgraft_calibration::{Config, Error, Report, Sample, build, preview};
use xgraft_dataset::{Question, Role};
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

fn tokenizer() -> Tokenizer {
    Tokenizer::open(xgraft_fixtures::TEXT.base()).unwrap()
}

fn template() -> ChatTemplate {
    ChatTemplate::open(xgraft_fixtures::TEXT.base()).unwrap()
}

fn attempt(task: &str, question: &str, class: &str, text: &str) -> Value {
    json!({"schema": "xgraft.trajectory/1", "question": question, "task": task, "model": "m", "arm": "tuned", "run": "0",
    "seed": 0, "class": class, "score": 1.0, "messages": [
        {"role": "user", "content": format!("Which gene belongs to phenotype {question}?")},
        {"role": "assistant", "content": text},
    ]})
}

/// A text of its own for every number.
fn text(number: u64, words: u64) -> String {
    let mut out = String::new();
    for word in 0..words {
        let _ = write!(
            out,
            "w{} ",
            number.wrapping_mul(0x9e37_79b9).wrapping_add(word * 7919) % 100_003
        );
    }
    out
}

fn question(id: &str, prompt: &str) -> Question {
    Question {
        id: id.to_owned(),
        task: "a".to_owned(),
        prompt: prompt.to_owned(),
        answer: "x".to_owned(),
        choices: Vec::new(),
        split: None,
        meta: serde_json::Map::new(),
    }
}

fn write(dir: &Path, rows: &[Value]) -> PathBuf {
    let path = dir.join("rows.jsonl");
    let lines: String = rows.iter().map(|row| row.to_string() + "\n").collect();
    std::fs::write(&path, lines).unwrap();
    path
}

fn config(samples: usize) -> Config {
    Config {
        samples,
        max_tokens: 64,
        ..Config::default()
    }
}

fn built(rows: &[Value], config: &Config) -> Result<(Vec<Sample>, Report), Error> {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = [question("else", "Something quite different")];
    build(
        &write(dir.path(), rows),
        Some(&elsewhere),
        &tokenizer(),
        Some(&template()),
        config,
    )
}

/// 30 right attempts at task `a`, 3 at `b`, and as many wrong ones.
fn rows() -> Vec<Value> {
    let mut rows = Vec::new();
    for number in 0..30 {
        rows.push(attempt(
            "a",
            &format!("a{number}"),
            "right",
            &text(number, 60),
        ));
        rows.push(attempt(
            "a",
            &format!("x{number}"),
            "wrong",
            &text(900 + number, 60),
        ));
    }
    for number in 0..3 {
        rows.push(attempt(
            "b",
            &format!("b{number}"),
            "right",
            &text(100 + number, 200),
        ));
    }
    rows
}

#[test]
fn only_right_answers_are_taken_by_quota_and_what_lacks_is_told() {
    let (samples, report) = built(&rows(), &config(12)).unwrap();
    assert_eq!(samples.len(), 12);
    assert!(
        samples
            .iter()
            .all(|sample| !sample.provenance.question.starts_with('x'))
    );
    let (a, b) = (report.tasks["a"], report.tasks["b"]);
    assert_eq!((a.quota, a.taken, a.shortfall()), (6, 9, 0));
    assert_eq!((b.quota, b.available, b.taken, b.shortfall()), (6, 3, 3, 3));
    assert_eq!((report.classes["right"], report.classes["wrong"]), (33, 30));
}

#[test]
fn tokens_are_those_of_the_model_by_its_template() {
    let (samples, report) = built(&rows(), &config(12)).unwrap();
    let tokenizer = tokenizer();
    for sample in &samples {
        assert!(
            sample.text.starts_with("<|im_start|>user\n")
                && sample.text.contains("<|im_start|>assistant\n")
        );
        assert_eq!(
            sample.tokens,
            tokenizer.encode(&sample.text, false).unwrap().len()
        );
    }
    let total: usize = samples.iter().map(|sample| sample.tokens).sum();
    assert_eq!(
        (report.tokens.total, report.tokens.used, report.tokens.cut),
        (total, 12 * 64, 12)
    );
    let counted: usize = report.histogram.iter().map(|bin| bin.samples).sum();
    assert_eq!(counted, 12);
}

#[test]
fn what_is_taken_depends_on_the_seed_and_not_on_the_order() {
    let taken = |rows: &[Value], seed| {
        let config = Config { seed, ..config(8) };
        let (samples, _) = built(rows, &config).unwrap();
        samples
            .into_iter()
            .map(|sample| sample.provenance.blake3)
            .collect::<Vec<_>>()
    };
    let mut backwards = rows();
    backwards.reverse();
    assert_eq!(taken(&rows(), 1), taken(&backwards, 1));
    assert_ne!(taken(&rows(), 1), taken(&rows(), 2));
}

#[test]
fn duplicates_and_near_duplicates_are_left_out() {
    let one = text(1, 300);
    let nearly = one.replacen("w", "changed", 2);
    let rows = [
        attempt("a", "1", "right", &one),
        attempt("a", "1", "right", &format!("[2] ASSISTANT: {one}\n\n\n\n")),
        attempt("a", "1", "right", &nearly),
        attempt("a", "2", "right", &text(2, 300)),
    ];
    let (samples, report) = built(&rows, &config(8)).unwrap();
    assert_eq!(
        (
            samples.len(),
            report.exact_duplicates,
            report.near_duplicates
        ),
        (2, 1, 1)
    );
}

#[test]
fn secrets_are_left_out_and_not_told() {
    let mut rows = rows();
    let key = "sk-abcdefghijklmnopqrstuvwxyz123456";
    rows.push(attempt(
        "a",
        "secret",
        "right",
        &format!("export KEY={key} {}", text(77, 60)),
    ));
    let (samples, report) = built(&rows, &config(40)).unwrap();
    assert_eq!(report.secrets["OpenAI or Anthropic key"], 1);
    let page = preview(&samples, &report);
    assert!(!page.contains("sk-abc") && samples.len() == 33);
}

#[test]
fn a_set_that_has_evaluation_questions_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &rows());
    let build_with = |evaluation: Option<&[Question]>, config: &Config| {
        build(&path, evaluation, &tokenizer(), None, config)
    };
    let asked = [question("a3", "Which gene belongs to phenotype a3?")];
    let all = config(33);
    let error = build_with(Some(&asked), &all).unwrap_err();
    assert!(
        error.to_string().starts_with(
            "1 of 33 samples have something of the evaluation set in them: question a3"
        )
    );
    assert!(matches!(build_with(None, &all), Err(Error::Unchecked)));
    let allowed = Config {
        allow_contamination: true,
        ..all.clone()
    };
    assert_eq!(
        build_with(Some(&asked), &allowed).unwrap().1.contaminated,
        ["question a3"]
    );
    // Words of a question under another name are found too.
    let words = text(5, 60);
    let copied = [question("other", &words)];
    let error = build_with(Some(&copied), &all).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("question a5 has words of question other"),
        "{error}"
    );
}

#[test]
fn short_questions_and_questions_that_stand_twice_are_found_under_other_ids() {
    let short: Vec<Value> = (0..20)
        .map(|n| attempt("a", &format!("t{n}"), "right", &text(n, 60)))
        .collect();
    let asked = |n| format!("Which gene belongs to phenotype t{n}?");
    let mut evaluation: Vec<Question> = (0..20)
        .map(|n| question(&format!("e{n}"), &asked(n)))
        .collect();
    evaluation.extend((0..20).map(|n| question(&format!("again{n}"), &asked(n))));
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &short);
    let found = build(&path, Some(&evaluation), &tokenizer(), None, &config(20));
    let error = found.unwrap_err().to_string();
    assert!(
        error.starts_with("20 of 20 samples") && error.contains("has the prompt of question e0"),
        "{error}"
    );
}

#[test]
fn leaking_attempts_are_left_out_and_others_take_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &rows());
    let asked = [
        question("a3", "Something quite different"),
        question("e5", "Which gene belongs to phenotype a5?"),
    ];
    let drop_leaks = |samples| Config {
        drop_leaks: true,
        ..config(samples)
    };
    let built =
        |asked: &[Question], config: &Config| build(&path, Some(asked), &tokenizer(), None, config);
    assert!(matches!(
        built(&asked, &config(33)),
        Err(Error::Contaminated { count: 2, .. })
    ));
    let (samples, report) = built(&asked, &drop_leaks(33)).unwrap();
    let leaks: Vec<_> = report.leaks.iter().map(|(id, n)| (&**id, *n)).collect();
    assert_eq!((leaks, samples.len()), (vec![("a3", 1), ("e5", 1)], 31));
    let questions = samples.iter().map(|s| &*s.provenance.question);
    assert!(questions.clone().all(|id| id != "a3" && id != "a5"));
    assert!(report.contaminated.is_empty());
    assert_eq!(built(&asked, &drop_leaks(12)).unwrap().0.len(), 12);
    // Where nothing is left, it is said why.
    let ids = (0..30)
        .map(|n| format!("a{n}"))
        .chain((0..3).map(|n| format!("b{n}")));
    let all: Vec<Question> = ids.map(|id| question(&id, "?")).collect();
    let error = built(&all, &drop_leaks(12)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("33 are right, 33 of those were left out") && text.ends_with("0 may be used"),
        "{text}"
    );
    assert!(error.hint().unwrap().contains("other questions"));
}

#[test]
fn a_split_keeps_calibration_and_evaluation_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &rows());
    let evaluation: Vec<Question> = (0..30).map(|n| question(&format!("a{n}"), "?")).collect();
    let config = Config {
        split: Some(0.5),
        ..config(33)
    };
    let (samples, report) = build(&path, Some(&evaluation), &tokenizer(), None, &config).unwrap();
    assert!(report.contaminated.is_empty() && report.held_out > 5);
    let held_out = &report.evaluation;
    assert!(
        samples
            .iter()
            .all(|sample| !held_out.contains(&sample.provenance.question))
    );
    let of_a = samples
        .iter()
        .filter(|sample| sample.provenance.task == "a")
        .count();
    assert_eq!(of_a + held_out.len(), 30);
}

#[test]
fn rows_of_the_published_harness_keep_their_roles_and_lose_their_markers() {
    let row = json!({"instance_id": 4, "task_name": "crispr_delivery", "prompt": "Which method?", "answer": "b",
        "predicted_answer": "b", "reward": 1, "success": true, "agent_type": "B1",
        "full_response": "[1] USER:\nWhich method?\n\n[2] ASSISTANT:\n==== Ai Message ====\nDEBUG: x\n<solution>b</solution>\n"});
    let mut wrong = row.clone();
    wrong["reward"] = json!(0); // a success, and still wrong
    let (samples, report) = built(&[row, wrong], &config(4)).unwrap();
    assert_eq!((report.rows, samples.len()), (2, 1));
    let seen: Vec<_> = samples[0]
        .messages
        .iter()
        .map(|m| (m.role, &*m.content))
        .collect();
    assert_eq!(
        seen,
        [
            (Role::User, "Which method?"),
            (Role::Assistant, "<solution>b</solution>")
        ]
    );
}

#[test]
fn nothing_to_take_and_half_a_line_are_clear_errors() {
    let wrong = [attempt("a", "1", "wrong", "x")];
    let error = built(&wrong, &config(4)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("found 1 rows of which 0 are right"),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.jsonl");
    std::fs::write(&path, "{\"schema\": \"xgraft.tra").unwrap();
    let error = build(&path, Some(&[]), &tokenizer(), None, &config(4)).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        source.contains("half.jsonl:1: the last line ends in its middle"),
        "{source}"
    );
}

#[test]
fn the_preview_loads_nothing_and_shows_text_as_text() {
    let rows = [attempt(
        "<b>",
        "1",
        "right",
        &format!("<script>alert(1)</script> {}", text(3, 2000)),
    )];
    let (samples, report) = built(&rows, &config(2)).unwrap();
    let page = preview(&samples, &report);
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script") && !page.contains("://"));
    assert!(page.contains("characters …"));
}

#[test]
#[ignore = "slow: writes and reads 200 MB, and prints the rate"]
fn the_first_pass_reads_fifty_megabytes_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let words: Vec<String> = (0..5000_u64)
        .map(|n| format!("w{}", n.wrapping_mul(0x9e37_79b9) % 9973))
        .collect();
    // As long as the published ones in the mean: 77,603 characters.
    for number in 0..2600_usize {
        let mut body = String::from("[1] USER:\nWhich?\n\n[2] ASSISTANT:\n");
        let mut at = number * 31;
        while body.len() < 77_000 {
            at = (at * 1_103_515_245 + 12345) % words.len();
            body.push_str(&words[at]);
            body.push(if at % 13 == 0 { '\n' } else { ' ' });
        }
        let row = attempt(
            &format!("t{}", number % 10),
            &number.to_string(),
            "right",
            &body,
        );
        serde_json::to_writer(&mut file, &row).unwrap();
        std::io::Write::write_all(&mut file, b"\n").unwrap();
    }
    drop(file);
    let bytes = std::fs::metadata(&path).unwrap().len();
    let config = Config {
        allow_contamination: true,
        samples: 10,
        ..Config::default()
    };
    let start = Instant::now();
    let (samples, _) = build(&path, None, &tokenizer(), None, &config).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    // Both passes; the second stops at the last row that was taken.
    let rate = bytes as f64 / 1e6 / seconds;
    assert_eq!(samples.len(), 10);
    assert!(rate > 50.0, "{rate:.0} MB/s");
    println!(
        "{:.0} MB in {seconds:.2} s: {rate:.0} MB/s on one core, tokens of ten samples included",
        bytes as f64 / 1e6
    );
}
