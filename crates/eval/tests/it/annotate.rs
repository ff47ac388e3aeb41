//! The four steps of annotation.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use xgraft_dataset::Class;
use xgraft_eval::annotate::judge::{AskError, JudgeError, Judgement, Pace, judge, parse};
use xgraft_eval::annotate::{
    By, Decision, Item, Key, Label, Log, LogError, Opinion, Signals, aggregate, signals,
};

fn item(question: u32, response: &str, reference: &str, class: Class) -> (Item, Signals) {
    let item = Item {
        key: Key {
            arm: "a".to_owned(),
            run: "0".to_owned(),
            question: question.to_string(),
        },
        task: "t".to_owned(),
        prompt: "Which gene?".to_owned(),
        reference: reference.to_owned(),
        response: response.to_owned(),
        answer: None,
        class,
    };
    let signals = signals(&item);
    (item, signals)
}

fn unclear(question: u32) -> (Item, Signals) {
    let text = format!("<solution>it may be gene {question}</solution>");
    item(question, &text, "BRCA1", Class::Wrong)
}

fn pace(tries: u32) -> Pace {
    Pace {
        workers: 3,
        between: Duration::ZERO,
        tries,
        wait: Duration::from_millis(1),
    }
}

#[test]
fn only_one_json_object_with_a_label_is_a_judgement() {
    let right = Ok((Opinion::Right, "same".to_owned()));
    for good in [
        r#"{"label": 1, "reason": "same"}"#,
        "```json\n{\"label\": 1, \"reason\": \"same\"}\n```",
        "<think>0 or 1?</think>\n{\"reason\": \"same\", \"label\": 1}",
    ] {
        assert_eq!(parse(good), right, "{good}");
    }
    for bad in [
        "1",
        "Label: 1",
        "I count 1 mention, so it is wrong.",
        r#"{"label": "1", "reason": "x"}"#,
        r#"{"label": 2, "reason": "x"}"#,
        r#"{"label": 1}"#,
        r#"{"label": 1, "reason": "x"} {"label": 0, "reason": "x"}"#,
        "",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_judging_that_was_stopped_goes_on_and_asks_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("judge.jsonl");
    let items: Vec<_> = (0..20).map(unclear).collect();
    let items: Vec<_> = items
        .iter()
        .map(|(item, signals)| (item, signals))
        .collect();
    let asked = Mutex::new(Vec::new());
    let left = AtomicUsize::new(7);
    let until_tired = |prompt: &str| {
        let tired = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if tired.is_err() {
            return Err(AskError::Fatal("the key is used up".to_owned()));
        }
        asked.lock().unwrap().push(prompt.to_owned());
        Ok(r#"{"label": 0, "reason": "other gene"}"#.to_owned())
    };
    let (log, known) = Log::open::<Judgement>(&path).unwrap();
    let error = judge("j", &items, &known, &log, pace(2), &until_tired, &|_, _| ()).unwrap_err();
    assert!(matches!(error, JudgeError::Refused { .. }), "{error}");
    drop(log);
    // A process that is killed in the middle of a line leaves half of one.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(b"{\"schema\":\"xgraft.judg");
    std::fs::write(&path, bytes).unwrap();
    left.store(1000, Ordering::SeqCst);
    let (log, known) = Log::open::<Judgement>(&path).unwrap();
    assert_eq!(known.len(), 7);
    let done = judge("j", &items, &known, &log, pace(2), &until_tired, &|_, _| ()).unwrap();
    assert_eq!((done.kept, done.asked, done.unlabelled), (7, 13, 0));
    let mut asked = asked.into_inner().unwrap();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 20);
    drop(log);
    assert_eq!(Log::read::<Judgement>(&path).unwrap().len(), 20);
}

#[test]
fn equal_answers_of_two_arms_are_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open::<Judgement>(&dir.path().join("judge.jsonl")).unwrap();
    let (one, signals) = unclear(1);
    let mut other = one.clone();
    other.key.arm = "b".to_owned();
    let says = |_: &str| Ok(r#"{"label": 1, "reason": "same"}"#.to_owned());
    judge(
        "j",
        &[(&one, &signals)],
        &[],
        &log,
        pace(1),
        &says,
        &|_, _| (),
    )
    .unwrap();
    let known = Log::read::<Judgement>(&dir.path().join("judge.jsonl")).unwrap();
    let never = |_: &str| -> Result<String, AskError> { panic!("asked again") };
    let done = judge(
        "j",
        &[(&other, &signals)],
        &known,
        &log,
        pace(1),
        &never,
        &|_, _| (),
    )
    .unwrap();
    assert_eq!((done.cached, done.asked), (1, 0));
    // Another judge is another question.
    let done = judge(
        "k",
        &[(&other, &signals)],
        &known,
        &log,
        pace(1),
        &says,
        &|_, _| (),
    )
    .unwrap();
    assert_eq!((done.cached, done.asked), (0, 1));
}

#[test]
fn nonsense_is_asked_again_and_then_left_without_a_label() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("judge.jsonl");
    let (log, _) = Log::open::<Judgement>(&path).unwrap();
    let (item, signals) = unclear(1);
    let count = AtomicUsize::new(0);
    let nonsense = |_: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok("well, 1 could say".to_owned())
    };
    let done = judge(
        "j",
        &[(&item, &signals)],
        &[],
        &log,
        pace(3),
        &nonsense,
        &|_, _| (),
    )
    .unwrap();
    assert_eq!((done.unlabelled, count.into_inner()), (1, 3));
    let kept = Log::read::<Judgement>(&path).unwrap();
    assert!(kept[0].opinion.is_none() && kept[0].reason.contains("well, 1 could say"));
}

#[test]
fn a_judge_that_never_answers_stops_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("judge.jsonl");
    let (log, _) = Log::open::<Judgement>(&path).unwrap();
    let (item, signals) = unclear(1);
    let down = |_: &str| Err(AskError::Passing("connection refused".to_owned()));
    let error = judge(
        "j",
        &[(&item, &signals)],
        &[],
        &log,
        pace(2),
        &down,
        &|_, _| (),
    )
    .unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(Log::read::<Judgement>(&path).unwrap().is_empty());
}

#[test]
fn questions_keep_their_distance() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open::<Judgement>(&dir.path().join("judge.jsonl")).unwrap();
    let items: Vec<_> = (0..5).map(unclear).collect();
    let items: Vec<_> = items
        .iter()
        .map(|(item, signals)| (item, signals))
        .collect();
    let says = |_: &str| Ok(r#"{"label": 1, "reason": "same"}"#.to_owned());
    let slow = Pace {
        between: Duration::from_millis(30),
        ..pace(1)
    };
    let start = Instant::now();
    judge("j", &items, &[], &log, slow, &says, &|_, _| ()).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(120));
}

#[test]
fn a_log_has_one_writer_and_names_its_bad_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("human.jsonl");
    let (log, _) = Log::open::<Decision>(&path).unwrap();
    assert!(matches!(
        Log::open::<Decision>(&path),
        Err(LogError::Locked { .. })
    ));
    drop(log);
    std::fs::write(&path, "{\"schema\":\"xgraft.judgement/1\"}\n").unwrap();
    let error = Log::open::<Decision>(&path).unwrap_err();
    assert!(error.to_string().ends_with(
        "human.jsonl:1: expected schema xgraft.decision/1, found \"xgraft.judgement/1\""
    ));
    std::fs::write(&path, "{}x\n").unwrap();
    assert!(matches!(
        Log::open::<Decision>(&path),
        Err(LogError::Entry { line: 1, .. })
    ));
}

fn judgement(question: u32, opinion: Opinion) -> Judgement {
    Judgement {
        key: unclear(question).0.key,
        judge: "j".to_owned(),
        asked: String::new(),
        opinion: Some(opinion),
        reason: String::new(),
    }
}

fn decision(question: u32, opinion: Opinion) -> Decision {
    Decision {
        key: unclear(question).0.key,
        opinion,
        who: "me".to_owned(),
        when: 0,
    }
}

#[test]
fn people_come_first_and_the_judge_last() {
    let items = [
        item(0, "<solution>BRCA1</solution>", "BRCA1", Class::Right), // plain rules
        item(1, "<solution>TP53</solution>", "BRCA1", Class::Wrong),  // plain rules
        unclear(2),                                                   // judge
        unclear(3),                                                   // a person against the judge
        unclear(4),                                                   // nobody
        item(5, "no end", "BRCA1", Class::Overflow),
        item(6, "", "BRCA1", Class::Infrastructure),
        unclear(7), // a person who cannot say leaves it to the judge
    ];
    let judgements = [
        judgement(2, Opinion::Right),
        judgement(3, Opinion::Wrong),
        judgement(7, Opinion::Wrong),
    ];
    let decisions = [
        decision(3, Opinion::Wrong),
        decision(3, Opinion::Right),
        decision(7, Opinion::Unsure),
    ];
    let (rows, summaries) = aggregate(&items, &judgements, &decisions);
    let seen: Vec<_> = rows.iter().map(|row| (row.label, row.by)).collect();
    let expected = [
        (Label::Right, By::Triage),
        (Label::Wrong, By::Triage),
        (Label::Right, By::Judge),
        (Label::Right, By::Human),
        (Label::Open, By::Nobody),
        (Label::Overflow, By::Class),
        (Label::Infrastructure, By::Class),
        (Label::Wrong, By::Judge),
    ];
    assert_eq!(seen, expected);
    let summary = &summaries[0];
    assert_eq!((summary.strict.right, summary.strict.n), (1, 7));
    assert_eq!((summary.judged.right, summary.judged.n), (3, 7));
    assert_eq!(summary.judge_human.unwrap().n, 1);
}

#[test]
fn kappa_of_judge_and_people_is_over_what_both_rated() {
    let items: Vec<_> = (0..40).map(unclear).collect();
    let opinion = |right: bool| {
        if right {
            Opinion::Right
        } else {
            Opinion::Wrong
        }
    };
    // 15 and 15 agree, 5 and 5 do not: kappa is 1/2.
    let judgements: Vec<_> = (0..40).map(|q| judgement(q, opinion(q < 20))).collect();
    let decisions: Vec<_> = (0..40)
        .map(|q| decision(q, opinion(!(15..35).contains(&q))))
        .collect();
    let (_, summaries) = aggregate(&items, &judgements, &decisions);
    let agreed = summaries[0].judge_human.unwrap();
    assert_eq!((agreed.n, agreed.observed), (40, 0.75));
    let kappa = agreed.kappa.unwrap();
    assert!((kappa.value - 0.5).abs() < 1e-12 && kappa.interval.lo > 0.2);
}
