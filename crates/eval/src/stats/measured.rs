//! The report as measurement rows.

use xgraft_results::Row;
use xgraft_statistics::Interval;

use super::Pair;
use super::report::{ArmReport, Comparison, Difference, Report};

impl Report {
    /// Every number of the report as rows, with `arm` and, where it is of one task, `task`.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let arms = self.arms.iter().flat_map(arm_rows);
        let comparisons = self.comparisons.iter().flat_map(comparison_rows);
        let level = Row::new("interval_level", 1.0 - self.alpha);
        let pairs = self.pairs.iter().flat_map(pair_rows);
        let synthetic = self.synthetic.then(|| Row::new("synthetic", 1.0));
        let rows = arms
            .chain(comparisons)
            .chain(pairs)
            .chain([level])
            .chain(synthetic);
        rows.filter(|row| row.value.is_finite())
            .map(|row| row.source("eval stats"))
            .collect()
    }
}

fn arm_rows(arm: &ArmReport) -> Vec<Row> {
    let named = |metric: &str, value: f64| Row::new(metric, value).arm(&arm.arm);
    let share = |metric: &str, share: &super::report::Share| {
        with(named(metric, share.value), share.interval).n(share.n)
    };
    let classes = [
        ("questions_right", arm.classes.right),
        ("questions_wrong", arm.classes.wrong),
        ("questions_unparsed", arm.classes.unparsed),
        ("questions_overflow", arm.classes.overflow),
        ("questions_infrastructure", arm.classes.infrastructure),
        ("questions_unlabelled", arm.classes.unlabelled),
    ];
    let mut rows = vec![
        share("accuracy_micro", &arm.micro),
        with(
            named("accuracy_macro", arm.r#macro.value),
            arm.r#macro.interval,
        )
        .n(arm.micro.n),
    ];
    rows.extend(
        arm.tasks
            .iter()
            .map(|(task, of_task)| share("accuracy", of_task).task(task)),
    );
    rows.extend(classes.map(|(metric, count)| named(metric, count as f64)));
    rows.extend(
        arm.without_infrastructure
            .as_ref()
            .map(|of_rest| share("accuracy_without_infrastructure", of_rest)),
    );
    rows.extend(
        arm.seconds_per_question
            .map(|seconds| named("seconds_per_question", seconds).unit("s")),
    );
    rows.extend(
        arm.size_gb
            .map(|size| named("memory", 1e9 * size.computed).unit("bytes")),
    );
    rows.extend(
        arm.resident_gb
            .map(|size| named("memory_resident", 1e9 * size).unit("bytes")),
    );
    rows.extend(arm.divergence.as_ref().map(|of| {
        let row = named("kl", of.kl.value).unit("nats").n(of.tokens);
        with(row, of.kl.interval)
    }));
    if let Some(repeats) = &arm.repeats {
        for (metric, by_k) in [
            ("pass_any", &repeats.pass_any),
            ("pass_all", &repeats.pass_all),
        ] {
            rows.extend(by_k.iter().map(|(k, estimate)| {
                let row = named(&format!("{metric}_{k}"), estimate.value);
                with(row, estimate.interval)
            }));
        }
        rows.push(named("spread_between_runs", repeats.between_runs));
    }
    rows
}

fn comparison_rows(comparison: &Comparison) -> Vec<Row> {
    let named = |metric: &str, value: f64| {
        Row::new(metric, value)
            .arm(&comparison.arm)
            .model(&comparison.reference)
            .n(comparison.questions)
    };
    let difference =
        |metric: &str, found: Difference| with(named(metric, found.value), found.interval);
    let mut rows = vec![
        difference("difference_micro", comparison.difference_micro),
        difference("difference_macro", comparison.difference_macro),
        named("p", comparison.p),
        named("p_holm", comparison.p_holm),
        named("p_equivalence", comparison.equivalence.p()),
    ];
    let retention = [
        ("retention_micro", comparison.retention_micro),
        ("retention_macro", comparison.retention_macro),
    ];
    for (metric, found) in retention {
        rows.extend(found.map(|found| difference(metric, found)));
    }
    rows
}

fn pair_rows(pair: &Pair) -> Vec<Row> {
    let answers = &pair.answers;
    let named = |metric: &str, value: f64| {
        let row = Row::new(metric, value).arm(&answers.arm);
        row.model(&answers.reference).n(answers.questions)
    };
    let points = answers.difference_micro;
    let mut rows = vec![
        with(named("pair_difference", points.value), points.interval),
        named("pair_p_holm", answers.p_holm),
    ];
    if let Some(divergence) = &pair.divergence {
        let difference = named("pair_kl_difference", divergence.kl.value).unit("nats");
        rows.push(with(difference, divergence.kl.interval));
        rows.push(named("pair_kl_p_holm", divergence.p_holm));
    }
    rows
}

/// The row with an interval that JSON can hold.
fn with(row: Row, interval: Interval) -> Row {
    if interval.lo.is_finite() && interval.hi.is_finite() {
        row.interval(interval.lo, interval.hi)
    } else {
        row
    }
}
