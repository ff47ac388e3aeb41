//! Runs against a scripted endpoint, in this process.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use xgraft_dataset::{Class, Question, Reader, Trajectory};
use xgraft_eval::client::{ApiKey, Client, ClientError, Sampling};
use xgraft_eval::run::{Limits, Plan, Progress, Report, Retries, RunError, Stop, Work, run};
use xgraft_eval::stats::{Clusters, Scoring, read_arms};
use xgraft_eval::task::Tasks;

use crate::endpoint::{Endpoint, Reply, prompt_of};
use crate::runtime;

fn questions(count: usize) -> Vec<Question> {
    let question = |number: usize| Question {
        id: number.to_string(),
        task: "lab_bench_dbqa".to_owned(),
        prompt: format!("question {number}"),
        answer: "A".to_owned(),
        choices: Vec::new(),
        split: None,
        meta: Map::new(),
    };
    (0..count).map(question).collect()
}

fn plan(questions: &[Question]) -> Plan {
    Plan {
        schema: Plan::SCHEMA.to_owned(),
        model: "m".to_owned(),
        arm: "m".to_owned(),
        data: Plan::digest(questions),
        questions: questions.len(),
        repeat: 1,
        seed: 0,
        synthetic: false,
        tasks: Tasks::eval1(),
        sampling: Sampling {
            temperature: 0.0,
            top_p: None,
            max_tokens: 100,
            extra: Map::new(),
        },
        limits: Limits {
            seconds: 20,
            tokens: 1000,
            turns: 10,
        },
        agent: None,
        system: None,
    }
}

fn work(out: &Path) -> Work {
    Work {
        out: out.to_owned(),
        concurrency: 4,
        lease: Duration::from_secs(60),
        request_timeout: Duration::from_secs(5),
        retries: Retries {
            attempts: 3,
            first: Duration::from_millis(5),
            longest: Duration::from_millis(20),
        },
    }
}

fn go(url: &str, out: &Path, plan: Plan, questions: Vec<Question>) -> Result<Report, RunError> {
    let key = ApiKey::new("sk-very-secret").unwrap();
    let client = Client::new(url, Some(key)).unwrap();
    runtime().block_on(run(
        plan,
        work(out),
        client,
        questions,
        None,
        Progress::default(),
        Stop::default(),
    ))
}

fn ask(endpoint: &Endpoint, out: &Path, count: usize) -> Result<Report, RunError> {
    let questions = questions(count);
    go(&endpoint.url, out, plan(&questions), questions)
}

fn answers(out: &Path) -> Vec<Trajectory> {
    let reader = Reader::<Trajectory>::open(&out.join("answers.jsonl")).unwrap();
    reader.map(Result::unwrap).collect()
}

fn logs(out: &Path) -> String {
    let entries = std::fs::read_dir(out.join("events")).unwrap();
    entries
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn every_ending_has_its_class() {
    let endpoint = Endpoint::start(|request| match prompt_of(request).as_str() {
        "question 0" => Reply::says("<solution>a</solution>"),
        "question 1" => Reply::says("<think>A</think>B"),
        "question 2" => Reply::says("<solution></solution>"),
        "question 3" => Reply::completion("on and on and", "length"),
        "question 4" => Reply::status(
            400,
            r#"{"error": {"message": "maximum context length is 10 tokens"}}"#,
        ),
        _ => Reply::status(400, r#"{"error": {"message": "unfit"}}"#),
    });
    let out = tempfile::tempdir().unwrap();
    let report = ask(&endpoint, out.path(), 6).unwrap();
    let classes: Vec<Class> = answers(out.path()).iter().map(|t| t.class).collect();
    use Class::{Overflow, Right, Unparsed, Wrong};
    assert_eq!(classes, [Right, Wrong, Unparsed, Overflow, Overflow]);
    assert!(!report.complete);
    assert_eq!((report.missing(), report.all.scored()), (1, 5));
    assert!(logs(out.path()).contains("unfit"));
}

#[test]
fn failures_of_the_endpoint_are_retried_and_not_scored() {
    let calls = AtomicUsize::new(0);
    let endpoint = Endpoint::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => Reply::status(503, "busy"),
        1 => Reply::status(200, "<!doctype html><title>Gateway</title>"),
        _ => Reply::says("A"),
    });
    let out = tempfile::tempdir().unwrap();
    let one = questions(1);
    let report = go(&endpoint.url, out.path(), plan(&one), one).unwrap();
    assert!(report.complete);
    assert_eq!(report.all.right, 1);
    assert_eq!(endpoint.asked().len(), 3);
    let logs = logs(out.path());
    assert!(
        logs.contains("an HTML page, Gateway") && logs.contains("503"),
        "{logs}"
    );
    assert!(!logs.contains("secret"));
}

/// What the statistics find in a run.
fn scored_and_failed(run: &Path) -> (u64, u64) {
    let arms = read_arms(run, None, Scoring::Strict, &Clusters::new()).unwrap();
    let total = arms[0].total();
    (total.scored(), total.infrastructure)
}

#[test]
fn what_failed_is_asked_again_by_the_next_start_and_what_is_done_is_not() {
    let up = std::sync::Arc::new(AtomicUsize::new(0));
    let switch = std::sync::Arc::clone(&up);
    let endpoint = Endpoint::start(move |request| {
        if prompt_of(request) == "question 1" && switch.load(Ordering::Relaxed) == 0 {
            return Reply::status(502, "down");
        }
        Reply::says("A")
    });
    let out = tempfile::tempdir().unwrap();
    let first = ask(&endpoint, out.path(), 3).unwrap();
    assert_eq!((first.complete, first.missing()), (false, 1));
    assert_eq!(endpoint.asked().len(), 2 + 3);
    assert_eq!(scored_and_failed(out.path()), (2, 1));

    up.store(1, Ordering::Relaxed);
    let second = ask(&endpoint, out.path(), 3).unwrap();
    assert!(second.complete);
    assert_eq!(endpoint.asked().len(), 5 + 1);
    assert_eq!(scored_and_failed(out.path()), (3, 0));
    let third = ask(&endpoint, out.path(), 3).unwrap();
    assert_eq!((third.all.right, endpoint.asked().len()), (3, 6));
}

#[test]
fn an_endpoint_that_is_down_ends_the_run_with_its_words() {
    let out = tempfile::tempdir().unwrap();
    let five = questions(5);
    let error = go("http://127.0.0.1:9", out.path(), plan(&five), five).unwrap_err();
    assert!(matches!(error, RunError::Down { count: 4, .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_key_that_is_refused_ends_the_run_at_once() {
    let endpoint = Endpoint::start(|_| Reply::status(401, r#"{"error": {"message": "who?"}}"#));
    let out = tempfile::tempdir().unwrap();
    let error = ask(&endpoint, out.path(), 20).unwrap_err();
    assert!(error.hint().unwrap().contains("--api-key-env"));
    assert!(endpoint.asked().len() <= 4);
}

#[test]
fn a_slow_answer_is_given_up_after_the_time_limit() {
    let endpoint = Endpoint::start(|_| Reply::says("A").after(Duration::from_secs(3)));
    let out = tempfile::tempdir().unwrap();
    let one = questions(1);
    let mut plan = plan(&one);
    plan.limits.seconds = 1;
    let report = go(&endpoint.url, out.path(), plan, one).unwrap();
    assert_eq!(report.all.overflow, 1);
}

#[test]
fn an_endpoint_that_hangs_is_no_model_that_never_stops() {
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", hung.local_addr().unwrap());
    let endpoint = Endpoint::start(|_| Reply::says("A").after(Duration::from_secs(3)));
    // Nobody is answered: one question alone, whose endpoint is silent; four, whose endpoint says what models it has and no more.
    for (url, count) in [(&url, 1), (&endpoint.url, 3)] {
        let out = tempfile::tempdir().unwrap();
        let questions = questions(count);
        let mut plan = plan(&questions);
        plan.limits.seconds = 1;
        let mut work = work(out.path());
        work.retries.attempts = 1;
        let client = Client::new(url, None).unwrap();
        let (progress, stop) = (Progress::default(), Stop::default());
        let ended = runtime().block_on(run(plan, work, client, questions, None, progress, stop));
        let words = match ended {
            Ok(report) => {
                assert_eq!(report.all.scored(), 0);
                report.failures.into_keys().collect()
            }
            Err(error) => error.to_string(),
        };
        assert!(words.contains("has not answered in 1 s"), "{words}");
    }
}

#[test]
fn a_model_that_never_stops_overflows_while_others_are_answered() {
    let endpoint = Endpoint::start(|request| match prompt_of(request).as_str() {
        "question 0" => Reply::says("A").after(Duration::from_secs(3)),
        _ => Reply::says("A").after(Duration::from_millis(300)),
    });
    let out = tempfile::tempdir().unwrap();
    let questions = questions(8);
    let mut plan = plan(&questions);
    plan.limits.seconds = 1;
    let report = go(&endpoint.url, out.path(), plan, questions).unwrap();
    assert_eq!((report.all.right, report.all.overflow), (7, 1));
}

#[test]
fn tokens_that_the_context_has_no_room_for_are_not_asked_for() {
    let endpoint = Endpoint::start(|request| {
        let asked = request["max_tokens"].as_u64().unwrap();
        let room = if prompt_of(request) == "question 0" {
            300
        } else {
            10
        };
        if asked <= room {
            return Reply::says("A");
        }
        let words = format!(
            "maximum context length is 8192 tokens (8000 in the messages, {asked} in the completion)"
        );
        Reply::status(
            400,
            &serde_json::json!({"error": {"message": words}}).to_string(),
        )
    });
    let out = tempfile::tempdir().unwrap();
    let questions = questions(2);
    let mut plan = plan(&questions);
    plan.sampling.max_tokens = 1000;
    let report = go(&endpoint.url, out.path(), plan, questions).unwrap();
    // The second conversation leaves no room for any answer.
    assert_eq!((report.all.right, report.all.overflow), (1, 1));
    assert!(logs(out.path()).contains("asked again for 250 tokens"));
}

#[test]
fn a_key_is_in_no_log_whatever_says_it() {
    for reply in [
        || {
            Reply::status(
                200,
                r#"{"error": {"message": "bad key Bearer sk-very-secret"}}"#,
            )
        },
        || {
            Reply::status(
                500,
                r#"{"error": {"message": "bad key Bearer sk-very-secret"}}"#,
            )
        },
        || Reply::says("my key is sk-very-secret"),
    ] {
        let endpoint = Endpoint::start(move |_| reply());
        let out = tempfile::tempdir().unwrap();
        let _ = ask(&endpoint, out.path(), 1);
        let logs = logs(out.path());
        assert!(logs.contains('…') && !logs.contains("secret"), "{logs}");
    }
}

#[test]
fn what_an_endpoint_says_against_every_question_is_told() {
    let endpoint = Endpoint::start(|_| Reply::status(400, r#"{"error": {"message": "unfit"}}"#));
    let out = tempfile::tempdir().unwrap();
    let report = ask(&endpoint, out.path(), 2).unwrap();
    let (words, count) = report.failures.first_key_value().unwrap();
    assert!(words.contains("unfit") && *count == 2, "{words}");
}

#[test]
fn an_answer_without_an_end_is_not_held() {
    let endpoint = Endpoint::start(|_| Reply::says(&"A".repeat(2 << 20)));
    let out = tempfile::tempdir().unwrap();
    let report = ask(&endpoint, out.path(), 1).unwrap();
    let (words, _) = report.failures.first_key_value().unwrap();
    assert!(words.contains("found more than"), "{words}");
}

#[test]
fn a_folder_of_another_run_is_refused() {
    let endpoint = Endpoint::start(|_| Reply::says("A"));
    let out = tempfile::tempdir().unwrap();
    ask(&endpoint, out.path(), 2).unwrap();
    let error = ask(&endpoint, out.path(), 3).unwrap_err().to_string();
    assert!(
        error.contains("the folder holds another run: `data` is"),
        "{error}"
    );
}

#[test]
fn a_log_that_was_cut_off_loses_only_its_last_line() {
    let endpoint = Endpoint::start(|_| Reply::says("A"));
    let out = tempfile::tempdir().unwrap();
    ask(&endpoint, out.path(), 3).unwrap();
    let whole = std::fs::read(out.path().join("answers.jsonl")).unwrap();
    let log = std::fs::read_dir(out.path().join("events")).unwrap().next();
    let log = log.unwrap().unwrap().path();
    let text = std::fs::read_to_string(&log).unwrap();
    let last = text.rfind(r#""event":"answer""#).unwrap();
    std::fs::write(&log, &text[..last + 40]).unwrap();
    let report = ask(&endpoint, out.path(), 3).unwrap();
    assert!(report.complete);
    assert_eq!(endpoint.asked().len(), 4);
    assert_eq!(
        std::fs::read(out.path().join("answers.jsonl")).unwrap(),
        whole
    );
}

#[test]
fn repetitions_have_seeds_of_their_own() {
    let endpoint = Endpoint::start(|_| Reply::says("A"));
    let out = tempfile::tempdir().unwrap();
    let two = questions(2);
    let mut plan = plan(&two);
    plan.repeat = 3;
    let report = go(&endpoint.url, out.path(), plan, two).unwrap();
    assert_eq!(report.all.right, 6);
    let rows = answers(out.path());
    let runs: Vec<&str> = rows.iter().map(|row| row.run.as_str()).collect();
    assert_eq!(runs, ["0", "1", "2", "0", "1", "2"]);
    let seeds: std::collections::HashSet<u64> = rows.iter().map(|row| row.seed).collect();
    assert_eq!(seeds.len(), 6);
    let sent = endpoint.asked();
    assert!(
        sent.iter()
            .all(|body| body["seed"].as_u64().unwrap() < 1 << 31)
    );
}

#[test]
fn two_processes_share_a_run_and_ask_nothing_twice() {
    let endpoint = Endpoint::start(|_| Reply::says("A").after(Duration::from_millis(2)));
    let out = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(ask(&endpoint, out.path(), 60).unwrap().complete));
        }
    });
    let prompts = endpoint.asked().iter().map(prompt_of).collect::<Vec<_>>();
    let different: std::collections::HashSet<&String> = prompts.iter().collect();
    assert_eq!((prompts.len(), different.len()), (60, 60));
    assert_eq!(answers(out.path()).len(), 60);
}

#[test]
fn the_first_look_at_an_endpoint_says_what_is_wrong() {
    let endpoint = Endpoint::start(|_| Reply::says("A"));
    let runtime = runtime();
    let check = |url: &str, model: &str| {
        let client = Client::new(url, None).unwrap();
        runtime.block_on(client.check(model, Duration::from_secs(5)))
    };
    check(&endpoint.url, "m").unwrap();
    let error = check(&endpoint.url, "other").unwrap_err();
    assert!(matches!(error, ClientError::NoModel { .. }));
    assert!(
        error
            .to_string()
            .ends_with("has no model `other`, it has m"),
        "{error}"
    );
    let error = check("http://127.0.0.1:9", "m").unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");
}

#[test]
fn requests_carry_what_was_asked_for() {
    let endpoint = Endpoint::start(|_| Reply::says("A"));
    let out = tempfile::tempdir().unwrap();
    let one = questions(1);
    let mut plan = plan(&one);
    plan.system = Some("be short".to_owned());
    let extra = serde_json::json!({"chat_template_kwargs": {"enable_thinking": false}});
    plan.sampling.extra = extra.as_object().unwrap().clone();
    go(&endpoint.url, out.path(), plan, one).unwrap();
    let body: Value = endpoint.asked().remove(0);
    assert_eq!(body["messages"][0]["role"], "system");
    assert_eq!(body["chat_template_kwargs"]["enable_thinking"], false);
    assert_eq!(body["max_tokens"], 100);
    assert_eq!(body["stream"], false);
}
