use std::io::Write as _;

use tempfile::NamedTempFile;
use xgraft_dataset::{
    Class, Message, Question, Reader, Role, Timing, Trajectory, Usage, Writer, read_questions,
};

const GOOD: &str = r#"{"instance_id": 0, "task_instance_id": 0, "task_name": "crispr_delivery", "split": "val", "prompt": "a?", "answer": "b"}"#;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".jsonl").unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// The message, with the folder left out.
fn refused(text: &str) -> String {
    let file = file(text);
    let message = read_questions(file.path()).unwrap_err().to_string();
    message.replace(&file.path().display().to_string(), "FILE")
}

#[test]
fn a_question_is_read_and_written_back() {
    let questions = read_questions(file(&format!("\n{GOOD}\n\n")).path()).unwrap();
    assert_eq!(questions.len(), 1);
    assert_eq!(questions[0].split.as_deref(), Some("val"));

    let out = NamedTempFile::new().unwrap();
    let mut writer = Writer::create(out.path()).unwrap();
    writer.write(&questions[0]).unwrap();
    writer.finish().unwrap();
    assert_eq!(read_questions(out.path()).unwrap(), questions);
}

#[test]
fn half_a_last_line_is_told_from_bad_json() {
    let torn = refused(&format!("{GOOD}\n{{\"instance_id\": 1, \"task_na"));
    assert!(
        torn.starts_with("FILE:2: the last line ends in its middle"),
        "{torn}"
    );
    let bad = refused(&format!("{{\"instance_id\" 1}}\n{GOOD}\n"));
    assert!(
        bad.starts_with("FILE:1, column 16: expected a JSON object"),
        "{bad}"
    );
}

#[test]
fn a_log_may_leave_its_torn_line_out() {
    let file = file(&format!("{GOOD}\n{{\"instance_id\": 1"));
    let rows = Reader::<Question>::open(file.path()).unwrap();
    assert_eq!(rows.without_torn_line().map(Result::unwrap).count(), 1);
}

#[test]
fn a_last_line_without_its_newline_is_whole_if_it_parses() {
    assert_eq!(read_questions(file(GOOD).path()).unwrap().len(), 1);
}

#[test]
fn a_missing_column_is_named_with_those_that_are_there() {
    let message = refused("{\"instance_id\": 3, \"prompt\": \"x\"}\n");
    assert_eq!(
        message,
        "FILE:1: column `task_instance_id` is missing, found the columns prompt"
    );
}

#[test]
fn a_column_of_another_type_is_named() {
    let message = refused(&GOOD.replace("\"b\"", "[1, 2]"));
    assert_eq!(
        message,
        "FILE:1: column `answer`: expected a string, found [1,2]"
    );
    let message = refused(&GOOD.replace("\"instance_id\": 0", "\"instance_id\": -1"));
    assert!(
        message.contains("expected a whole number from 0, found -1"),
        "{message}"
    );
}

#[test]
fn duplicates_name_both_places() {
    let message = refused(&format!("{GOOD}\n{GOOD}\n"));
    assert_eq!(
        message,
        "FILE:2: id 0 was already at FILE:1; every question has its own"
    );
}

#[test]
fn other_schemas_and_other_things_are_refused() {
    let message = refused(&GOOD.replacen('{', "{\"schema\": \"xgraft.question/9\", ", 1));
    assert!(
        message.contains("expected schema xgraft.question/1, found \"xgraft.question/9\""),
        "{message}"
    );
    assert_eq!(
        refused("[1]\n"),
        "FILE:1: expected a JSON object, found [1]"
    );
    assert_eq!(refused(""), "FILE: expected at least one row, found none");
}

#[test]
fn a_trajectory_comes_back_as_it_was_written() {
    let trajectory = Trajectory {
        question: "5".to_owned(),
        task: "lab_bench_dbqa".to_owned(),
        model: "m".to_owned(),
        arm: "tuned".to_owned(),
        run: "2".to_owned(),
        seed: 7,
        messages: vec![
            Message::new(Role::User, "which?"),
            Message::new(Role::Assistant, "<solution>A</solution>"),
        ],
        answer: Some("A".to_owned()),
        reference: Some("A".to_owned()),
        score: Some(1.0),
        class: Class::Right,
        detail: None,
        executions: 1,
        usage: Some(Usage {
            prompt_tokens: 10,
            completion_tokens: 3,
        }),
        timing: Some(Timing {
            total_ms: 12.25,
            turns: 1,
        }),
    };
    let out = NamedTempFile::new().unwrap();
    let mut writer = Writer::create(out.path()).unwrap();
    writer.write(&trajectory).unwrap();
    writer.finish().unwrap();
    let back: Vec<_> = Reader::<Trajectory>::open(out.path()).unwrap().collect();
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].as_ref().unwrap(), &trajectory);
}

#[test]
fn result_rows_of_the_published_harness_are_trajectories() {
    let row = |rest: &str| {
        let text = GOOD.replace(
            r#""answer": "b""#,
            &format!(r#""answer": "b", "full_response": "...", {rest}"#),
        );
        let file = file(&text);
        let row = Reader::<Trajectory>::open(file.path()).unwrap().next();
        row.unwrap().unwrap()
    };
    let right = row(r#""predicted_answer": "B", "reward": 1.0, "success": true, "error": null"#);
    assert_eq!((right.class, right.score), (Class::Right, Some(1.0)));
    let wrong = row(r#""predicted_answer": "c", "reward": 0.0, "success": true"#);
    assert_eq!(wrong.class, Class::Wrong);
    let overflow = row(r#""success": false, "reward": 0.0, "error": "Max token limit""#);
    assert_eq!(overflow.class, Class::Overflow);
    let proxy = row(r#""success": false, "reward": 0.0, "error": "Proxy error to x""#);
    assert_eq!((proxy.class, proxy.score), (Class::Infrastructure, None));
    assert_eq!(row(r#""reward": 0.0"#).class, Class::Unparsed);
}
