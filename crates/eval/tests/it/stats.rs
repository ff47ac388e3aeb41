//! What the counts of arms say.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xgraft_eval::stats::{
    Arm, Clusters, Kind, Options, Outcome, Report, Scoring, StatsError, Tally, Verdict, analyse,
    read_arms, read_counts, read_distances,
};

fn published() -> Report {
    let path = xgraft_fixtures::dir().join("published/results.json");
    let file = read_counts(&path).unwrap();
    analyse(
        &file.arms,
        file.reference.as_deref(),
        &file.claims,
        &Options::default(),
    )
    .unwrap()
}

/// Percent with one decimal, as the tables print it.
fn tenth(share: f64) -> f64 {
    (1000.0 * share).round() / 10.0
}

#[test]
fn the_published_table_comes_out_of_the_published_counts() {
    let report = published();
    let seen: Vec<(&str, f64, f64)> = report
        .arms
        .iter()
        .map(|arm| {
            (
                &*arm.arm,
                tenth(arm.macro_of_whole_percents),
                tenth(arm.micro.value),
            )
        })
        .collect();
    let expected = [
        ("baseline_bf16", 44.5, 47.1),
        ("method_a_r256", 44.6, 46.2),
        ("method_b_r256", 29.5, 31.4),
        ("method_c_fp8", 41.4, 42.5),
        ("method_a_r128", 43.3, 45.0),
        ("int8_reference", 40.9, 44.1),
        ("qwen3_bf16", 22.1, 22.6),
    ];
    assert_eq!(seen, expected);
    // Exactly, Method C's mean is 41.45: the published 41.4 is of tasks rounded to whole percents.
    assert!((report.arms[3].r#macro.value - 0.41454).abs() < 1e-5);
    let baseline = &report.arms[0];
    assert_eq!(
        (
            tenth(baseline.micro.interval.lo),
            tenth(baseline.micro.interval.hi)
        ),
        (42.5, 51.8)
    );
    assert_eq!(tenth(1.96 * baseline.r#macro.se), 4.9);
    let int8 = report.arms[5].without_infrastructure.unwrap();
    assert_eq!((int8.right, int8.n, tenth(int8.value)), (191, 379, 50.4));
}

#[test]
fn of_the_published_comparisons_only_the_large_ones_stand() {
    let report = published();
    let outcomes: Vec<(&str, Outcome)> = report
        .comparisons
        .iter()
        .map(|c| (&*c.arm, c.outcome))
        .collect();
    let expected = [
        ("method_a_r256", Outcome::Undecided),
        ("method_b_r256", Outcome::Lower),
        ("method_c_fp8", Outcome::Undecided),
        ("method_a_r128", Outcome::Undecided),
        ("int8_reference", Outcome::Undecided),
        ("qwen3_bf16", Outcome::Lower),
    ];
    assert_eq!(outcomes, expected);
    // No published arm is shown to be equal to the baseline.
    assert!(report.comparisons.iter().all(|c| !c.equivalence.holds()));
    let a = &report.comparisons[0];
    assert!(
        (a.p_unpaired - 0.785).abs() < 0.001 && (a.p - 0.78).abs() < 0.005,
        "{a:?}"
    );
    let c = &report.comparisons[2];
    assert!(
        (c.p_unpaired - 0.17).abs() < 0.005 && (c.p - 0.15).abs() < 0.005,
        "{c:?}"
    );
}

#[test]
fn claims_are_judged_by_tests_and_not_by_digits() {
    let report = published();
    let verdict = |wanted: &dyn Fn(&Kind) -> bool| {
        let judged = report.claims.iter().find(|j| wanted(&j.claim.kind));
        judged.unwrap().verdict
    };
    let about =
        |kind: &Kind, name: &str| matches!(kind, Kind::RetentionAbove { arm, .. } if arm == name);
    assert_eq!(
        verdict(&|k| matches!(k, Kind::Parity { .. })),
        Verdict::Undecided
    );
    assert_eq!(verdict(&|k| about(k, "method_a_r256")), Verdict::Undecided);
    assert_eq!(verdict(&|k| about(k, "method_c_fp8")), Verdict::Undecided);
    assert_eq!(
        verdict(&|k| matches!(k, Kind::RetentionBelow { .. })),
        Verdict::Holds
    );
    assert_eq!(
        verdict(&|k| matches!(k, Kind::TasksAtLeast { .. })),
        Verdict::Fails
    );
    // Six tasks, two of them with equal counts.
    let tasks = report
        .claims
        .iter()
        .find(|j| matches!(j.claim.kind, Kind::TasksAtLeast { .. }));
    assert_eq!(tasks.unwrap().found, 6.0);
    // Every accuracy of table 4.1 is a macro mean of the counts.
    let accuracies = report
        .claims
        .iter()
        .filter(|j| matches!(j.claim.kind, Kind::Accuracy { .. }));
    assert!(
        accuracies.clone().count() == 7 && accuracies.clone().all(|j| j.verdict == Verdict::Holds)
    );
    // A saving of 37.5 % is of rounded sizes: 38.6 of 65.5 GB are 41.1 %.
    let saving = report
        .claims
        .iter()
        .find(|j| matches!(j.claim.kind, Kind::Saving { .. }))
        .unwrap();
    assert_eq!(
        (saving.verdict, tenth(saving.found)),
        (Verdict::Fails, 41.1)
    );
}

#[test]
fn the_rows_hold_every_arm_and_comparison() {
    let rows = published().rows();
    let has = |metric: &str| rows.iter().filter(|row| row.metric == metric).count();
    assert_eq!(
        (
            has("accuracy_micro"),
            has("accuracy_macro"),
            has("accuracy")
        ),
        (7, 7, 70)
    );
    assert_eq!(
        (
            has("difference_micro"),
            has("retention_macro"),
            has("memory")
        ),
        (6, 6, 7)
    );
    let mut bytes = Vec::new();
    xgraft_results::jsonl::write(&mut bytes, &rows).unwrap();
}

/// A statistics file as the published harness writes it.
fn harness_file() -> Value {
    json!({"processed": 12, "correct": 5, "total_execution_time": 60.0, "by_task": {
        "crispr_delivery": {"total": 10, "correct": 4, "total_time": 50.0,
            "incorrect": {"max_token_error": 2, "proxy_error": 1, "wrong_answers": 2}},
        "lab_bench_dbqa": {"total": 2, "correct": 1, "total_time": 10.0,
            "incorrect": {"max_token_error": 0, "proxy_error": 0, "wrong_answers": 1}},
    }})
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn statistics_files_of_the_published_harness_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "Final_Method A_statistics.json",
        &harness_file().to_string(),
    );
    let arm = read_counts(&path).unwrap().arms.remove(0);
    assert_eq!((&*arm.name, arm.seconds), ("Method A", Some(60.0)));
    let expected = Tally {
        right: 4,
        wrong: 2,
        overflow: 2,
        infrastructure: 1,
        unlabelled: 1, // 10 less those that have a kind
        ..Tally::default()
    };
    assert_eq!(arm.tasks["crispr_delivery"], expected);
    assert_eq!(arm.count(&expected).n, 10);
}

#[test]
fn bad_files_of_counts_are_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let said = |name: &str, text: &str| {
        let error = read_counts(&write(dir.path(), name, text)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        format!(
            "{error}: {}",
            std::error::Error::source(&error).map_or(String::new(), ToString::to_string)
        )
    };
    assert!(said("half.json", "{\"arms\": {\"a\": ").contains("EOF while parsing"));
    assert!(said("other.json", "{\"accuracy\": 1}").contains("found accuracy"));
    assert!(said("list.json", "[1]").contains("found no object"));
    let mut file = harness_file();
    file["by_task"]["lab_bench_dbqa"]["correct"] = json!(7);
    assert!(said("sum.json", &file.to_string()).contains("add up to 2 questions, found 8"));
    file["by_task"]["lab_bench_dbqa"] = json!({"correct": 1});
    assert!(said("missing.json", &file.to_string()).contains("missing field `total`"));
}

fn attempt(arm: &str, question: u32, run: u32, class: &str) -> Value {
    json!({"schema": "xgraft.trajectory/1", "question": question.to_string(), "task": format!("t{}", question % 2),
        "model": "m", "arm": arm, "run": run.to_string(), "seed": 0, "messages": [], "class": class,
        "timing": {"total_ms": 500.0, "turns": 1}})
}

fn jsonl(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| row.to_string() + "\n").collect()
}

fn arms(path: &Path) -> Result<Vec<Arm>, StatsError> {
    read_arms(path, None, Scoring::Strict, &Clusters::new())
}

/// Two arms over 400 questions: `b` is right where `a` is but for every tenth, and four others.
fn two_arms(dir: &Path) -> PathBuf {
    let class = |right: bool| if right { "right" } else { "wrong" };
    let rows = (0..400).flat_map(|q| {
        let a = q % 3 != 0;
        let b = (a && q % 10 != 0) || (q % 99 == 0);
        [attempt("a", q, 0, class(a)), attempt("b", q, 0, class(b))]
    });
    write(dir, "rows.jsonl", &jsonl(rows))
}

#[test]
fn runs_are_compared_question_by_question() {
    let dir = tempfile::tempdir().unwrap();
    let arms = arms(&two_arms(dir.path())).unwrap();
    let report = analyse(&arms, Some("a"), &[], &Options::default()).unwrap();
    let comparison = &report.comparisons[0];
    assert!(comparison.paired && comparison.questions == 400);
    let pairs = comparison.pairs.unwrap();
    assert_eq!((pairs.both, pairs.only_a, pairs.only_b), (240, 5, 26));
    assert_eq!(
        (comparison.test, comparison.outcome),
        ("exact McNemar", Outcome::Lower)
    );
    assert!(comparison.difference_micro.interval.contains(-21.0 / 400.0));
    assert!((report.arms[0].seconds_per_question.unwrap() - 0.5).abs() < 1e-9);
    // The same arm twice is equal within three points: 400 questions without one difference show that.
    let mut same = arms.clone();
    same[1] = Arm {
        name: "again".to_owned(),
        ..same[0].clone()
    };
    let report = analyse(&same, None, &[], &Options::default()).unwrap();
    assert_eq!(report.comparisons[0].outcome, Outcome::Parity);
}

/// Two arms, `a` nearer to the reference than `b` in every question by half.
fn with_distances(dir: &Path, tokens_of_b: u64) -> Vec<Arm> {
    let mut all = arms(&two_arms(dir)).unwrap();
    for (arm, kl, tokens) in [("a", 0.01, 5), ("b", 0.02, tokens_of_b)] {
        let dir = dir.join(arm);
        std::fs::create_dir(&dir).unwrap();
        let row = |q: u32| {
            let kl = kl * f64::from(1 + q % 3);
            json!({"schema": "xgraft.distance/1", "question": q.to_string(), "tokens": tokens, "kl": kl})
        };
        write(&dir, "distances.jsonl", &jsonl((0..300).map(row)));
        let arm = all.iter_mut().find(|a| a.name == arm).unwrap();
        arm.distances = read_distances(&dir).unwrap();
    }
    all
}

#[test]
fn distances_are_means_over_tokens_and_pairs_are_paired_by_question() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        pairs: vec![["a".to_owned(), "b".to_owned()]],
        ..Options::default()
    };
    let report = analyse(&with_distances(dir.path(), 5), None, &[], &options).unwrap();
    let of_a = report.arms[0].divergence.as_ref().unwrap();
    assert_eq!((of_a.tokens, of_a.questions), (1500, 300));
    assert!((of_a.kl.value - 0.02 / 5.0).abs() < 1e-12, "{of_a:?}");
    let pair = &report.pairs[0];
    assert_eq!(pair.answers.outcome, Outcome::Higher);
    let further = pair.divergence.as_ref().unwrap();
    assert!((further.kl.value + 0.02 / 5.0).abs() < 1e-12);
    assert!(
        further.kl.interval.hi < 0.0 && further.p_holm < 1e-9,
        "{further:?}"
    );
    // Paired, what questions have in common is no error: 300 questions vary as much as one arm's do.
    assert!((further.kl.se - of_a.kl.se).abs() < 1e-12);
    let metrics = [
        "kl",
        "pair_difference",
        "pair_p_holm",
        "pair_kl_difference",
        "pair_kl_p_holm",
    ];
    let rows = report.rows();
    for metric in metrics {
        assert!(rows.iter().any(|row| row.metric == metric), "{metric}");
    }
}

#[test]
fn distances_over_other_answers_are_not_compared() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        pairs: vec![["a".to_owned(), "b".to_owned()]],
        ..Options::default()
    };
    let error = analyse(&with_distances(dir.path(), 6), None, &[], &options).unwrap_err();
    assert!(
        matches!(
            error,
            StatsError::OtherAnswers {
                tokens: 5,
                other_tokens: 6,
                ..
            }
        ),
        "{error}"
    );
    let options = Options {
        pairs: vec![["a".to_owned(), "c".to_owned()]],
        ..Options::default()
    };
    let arms = arms(&dir.path().join("rows.jsonl")).unwrap();
    let error = analyse(&arms, None, &[], &options).unwrap_err();
    assert_eq!(error.to_string(), "unknown arm c, expected one of a, b");
}

#[test]
fn what_a_run_s_server_took_of_memory_is_read_from_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "answers.jsonl",
        &jsonl([attempt("a", 1, 0, "right")]),
    );
    assert!(arms(dir.path()).unwrap()[0].size.is_none());
    write(
        dir.path(),
        "served.json",
        r#"{"stored_bytes": 2500000, "resident_bytes": 90000000}"#,
    );
    let arm = &arms(dir.path()).unwrap()[0];
    assert_eq!(arm.size.unwrap().computed, 0.0025);
    assert_eq!(arm.resident, Some(0.09));
    write(dir.path(), "served.json", "{}");
    let error = arms(dir.path()).unwrap_err();
    assert!(error.to_string().contains("served.json"), "{error}");
}

#[test]
fn few_questions_without_a_difference_are_not_parity() {
    let dir = tempfile::tempdir().unwrap();
    let rows = (0..20).flat_map(|q| [attempt("a", q, 0, "right"), attempt("b", q, 0, "right")]);
    let arms = arms(&write(dir.path(), "rows.jsonl", &jsonl(rows))).unwrap();
    let report = analyse(&arms, None, &[], &Options::default()).unwrap();
    assert_eq!(report.comparisons[0].outcome, Outcome::Undecided);
}

#[test]
fn repeats_give_pass_at_k_and_a_clustered_comparison() {
    let dir = tempfile::tempdir().unwrap();
    let class = |right: bool| if right { "right" } else { "wrong" };
    let rows = (0..60).flat_map(|q| {
        (0..3).flat_map(move |run| {
            [
                attempt("a", q, run, class((q + run) % 2 == 0)),
                attempt("b", q, run, class(q % 2 == 0)),
            ]
        })
    });
    let arms = arms(&write(dir.path(), "rows.jsonl", &jsonl(rows))).unwrap();
    let report = analyse(&arms, None, &[], &Options::default()).unwrap();
    let repeats = report.arms[0].repeats.as_ref().unwrap();
    assert_eq!(repeats.attempts, 3);
    // Two of three right, or one of three: any of two is right but when both drawn are wrong.
    assert!((repeats.pass_any[&2].value - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
    assert!((repeats.pass_all[&3].value).abs() < 1e-12);
    assert!(repeats.between_runs > 0.0);
    let comparison = &report.comparisons[0];
    assert_eq!(
        (comparison.test, comparison.pairs),
        ("z of clustered differences", None)
    );
}

#[test]
fn failures_of_the_infrastructure_are_not_scored() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        attempt("a", 1, 0, "right"),
        attempt("a", 2, 0, "infrastructure"),
        attempt("a", 4, 0, "overflow"),
    ];
    let arm = arms(&write(dir.path(), "rows.jsonl", &jsonl(rows)))
        .unwrap()
        .remove(0);
    let total = arm.total();
    assert_eq!(
        (total.asked(), total.scored(), arm.count(&total).n),
        (3, 2, 2)
    );
}

fn event(generation: u32, trajectory: &Value) -> Value {
    let event = match trajectory["class"].as_str() {
        Some("infrastructure") => "failed",
        _ => "answer",
    };
    json!({"schema": "xgraft.event/1", "at": 1.5, "event": event, "generation": generation, "trajectory": trajectory})
}

#[test]
fn the_log_of_a_run_counts_each_question_once() {
    let dir = tempfile::tempdir().unwrap();
    let claimed = json!({"schema": "xgraft.event/1", "at": 1.0, "event": "claimed", "question": "1", "run": "0", "generation": 0});
    let first = jsonl([claimed, event(1, &attempt("a", 1, 0, "wrong"))]);
    // The same question of an earlier generation counts; the half line is of a process that was killed.
    let second = jsonl([
        event(0, &attempt("a", 1, 0, "right")),
        event(0, &attempt("a", 2, 0, "wrong")),
        // The endpoint failed at first with one question, and with another one only.
        event(0, &attempt("a", 3, 0, "infrastructure")),
        event(1, &attempt("a", 3, 0, "right")),
        event(0, &attempt("a", 4, 0, "infrastructure")),
    ]) + "{\"schema\": \"xgraft.event/1\", \"event\": \"ans";
    write(dir.path(), "events/p1.jsonl", &first);
    write(dir.path(), "events/p2.jsonl", &second);
    let arm = arms(dir.path()).unwrap().remove(0);
    let total = arm.total();
    assert_eq!((total.right, total.wrong), (2, 1));
    assert_eq!(total.infrastructure, 1);
}

#[test]
fn bad_rows_are_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let said = |rows: String| {
        let error = arms(&write(dir.path(), "rows.jsonl", &rows)).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    };
    let twice = [attempt("a", 1, 0, "right"), attempt("a", 1, 0, "right")];
    assert!(
        said(jsonl(twice))
            .contains("rows.jsonl:2: question 1 of run 0 in arm a was already counted")
    );
    let half = jsonl([attempt("a", 1, 0, "right")]) + "{\"schema\": \"xgraft.traj";
    assert!(said(half).contains("rows.jsonl:2: the last line ends in its middle"));
    let mut missing = attempt("a", 1, 0, "right");
    missing.as_object_mut().unwrap().remove("task");
    assert!(said(jsonl([missing])).contains("column `task` is missing"));
    assert!(said(String::new()).contains("expected at least one row, found none"));
}

#[test]
fn arms_of_other_tasks_are_not_compared() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        attempt("a", 1, 0, "right"),
        attempt("a", 2, 0, "right"),
        attempt("b", 1, 0, "right"),
    ];
    let arms = arms(&write(dir.path(), "rows.jsonl", &jsonl(rows))).unwrap();
    let error = analyse(&arms, None, &[], &Options::default()).unwrap_err();
    assert!(matches!(error, StatsError::Tasks { task, .. } if task == "t0"));
    let error = analyse(&arms, Some("c"), &[], &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "unknown arm c, expected one of a, b");
}
