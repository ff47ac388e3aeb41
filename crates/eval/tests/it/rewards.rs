//! `rewards.jsonl` has answers, references, and what the official scorer (Python 3.11) gave for them.

use serde::Deserialize;
use xgraft_dataset::{Question, read_questions};
use xgraft_eval::task::{Tasks, Verdict};

#[derive(Deserialize)]
struct Case {
    task: String,
    answer: String,
    reference: String,
    reward: f64,
}

fn question(task: &str, answer: &str) -> Question {
    Question {
        id: "0".to_owned(),
        task: task.to_owned(),
        prompt: String::new(),
        answer: answer.to_owned(),
        choices: Vec::new(),
        split: None,
        meta: serde_json::Map::new(),
    }
}

#[test]
fn scores_are_those_of_the_official_scorer() {
    let tasks = Tasks::eval1();
    let mut count = 0;
    let mut wrong = Vec::new();
    for line in include_str!("rewards.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let task = tasks.of(&question(&case.task, "")).unwrap();
        let verdict = task.scorer.judge(&case.answer, &case.reference);
        if verdict.score() != case.reward {
            wrong.push(line);
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 250, "{count}");
}

#[test]
fn an_answer_without_the_tasks_form_is_unparsed_and_one_with_it_wrong() {
    let tasks = Tasks::eval1();
    let task = tasks.of(&question("patient_gene_detection", "")).unwrap();
    assert_eq!(task.scorer.judge("the gene is X", "X"), Verdict::Unparsed);
    assert_eq!(
        task.scorer.judge("{'causal_gene': ['Y']}", "X"),
        Verdict::Wrong
    );
    assert_eq!(task.scorer.judge("{'gene': ['Y']}", "X"), Verdict::Wrong);
}

#[test]
fn the_reference_of_every_question_of_the_fixture_scores_one() {
    let path = xgraft_fixtures::dir().join("tiny-qwen3-text/eval1_mini.jsonl");
    let questions = read_questions(&path).unwrap();
    assert_eq!(questions.len(), 433);
    let tasks = Tasks::eval1();
    for question in questions {
        let task = tasks.of(&question).unwrap();
        let answer = match question.task.as_str() {
            "patient_gene_detection" => format!("{{'causal_gene': ['{}']}}", question.answer),
            _ => question.answer.clone(),
        };
        let verdict = task.scorer.judge(&answer, &question.answer);
        assert_eq!(verdict, Verdict::Right, "{question:?}");
    }
}

#[test]
fn tasks_come_from_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sums.toml");
    let text = "name = 'sums'\n[[task]]\nname = 'add*'\nscorer = 'exact'\ntemplate = 'Q: {prompt}'\nanswer = 'whole'\n";
    std::fs::write(&path, text).unwrap();
    let tasks = Tasks::named(path.to_str().unwrap()).unwrap();
    let mut asked = question("add-two", "5");
    asked.prompt = "2 + 3".to_owned();
    assert_eq!(tasks.of(&asked).unwrap().prompt(&asked), "Q: 2 + 3");
    let error = tasks.of(&question("mul", "6")).unwrap_err().to_string();
    assert_eq!(
        error,
        "question 0: unknown task `mul`, expected one of add*"
    );

    std::fs::write(
        &path,
        "name = 'sums'\n[[task]]\nname = 'add'\nscorer = 'fuzzy'\n",
    )
    .unwrap();
    let error = Tasks::named(path.to_str().unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("sums.toml: not a list of tasks"),
        "{error}"
    );
}
