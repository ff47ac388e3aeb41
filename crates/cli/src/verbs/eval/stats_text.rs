//! The report of `xgraft eval stats` as tables.

use std::fmt::Write as _;

use xgraft_eval::stats::{
    ArmReport, Comparison, Difference, Infrastructure, Outcome, Report, Scoring, Share, Verdict,
};

use xgraft_results::human::{bytes, number};

use crate::table::Table;

/// Tables of arms, tasks, cost, comparisons and claims, and what this many questions can show.
pub(super) fn render(report: &Report) -> String {
    let mut text = if report.synthetic {
        "synthetic questions: made up in the form of these tasks, they say nothing of what a model knows\n\n".to_owned()
    } else {
        String::new()
    };
    text += &accuracy(report);
    text += &tasks(report);
    text += &cost(report);
    text += &repeats(report);
    text += &comparisons(report);
    text += &pairs(report);
    text += &claims(report);
    text += &power(report);
    text
}

fn accuracy(report: &Report) -> String {
    let level = format!("{:.0} % interval", 100.0 * (1.0 - report.alpha));
    let mut table = Table::new(&[
        "arm",
        "right",
        "of",
        "micro %",
        &level,
        "macro %",
        "±",
        "of whole %",
        "wrong",
        "unparsed",
        "overflow",
        "infra",
        "unlabelled",
    ]);
    for arm in &report.arms {
        let Share { right, n, .. } = arm.micro;
        let classes = arm.classes;
        let half = (arm.r#macro.interval.hi - arm.r#macro.interval.lo) / 2.0;
        table.row(vec![
            arm.arm.clone(),
            right.to_string(),
            n.to_string(),
            percent(arm.micro.value),
            interval(arm.micro.interval.lo, arm.micro.interval.hi),
            format!("{:.2}", 100.0 * arm.r#macro.value),
            percent(half),
            percent(arm.macro_of_whole_percents),
            classes.wrong.to_string(),
            classes.unparsed.to_string(),
            classes.overflow.to_string(),
            classes.infrastructure.to_string(),
            classes.unlabelled.to_string(),
        ]);
    }
    let mut text = table.render();
    for arm in &report.arms {
        text += &arm_notes(arm);
    }
    text
}

fn arm_notes(arm: &ArmReport) -> String {
    let mut text = String::new();
    if let Some((micro, r#macro)) = arm.other_scoring {
        let (this, that) = match arm.scoring {
            Scoring::Strict => ("strict", "judged"),
            Scoring::Judged => ("judged", "strict"),
        };
        let _ = writeln!(
            text,
            "{}: {this} above; {that}: micro {} % ({} of {}), macro {} %",
            arm.arm,
            percent(micro.value),
            micro.right,
            micro.n,
            percent(r#macro.value)
        );
    }
    if let Some(rest) = arm.without_infrastructure {
        let _ = writeln!(
            text,
            "{}: failures of the infrastructure and unlabelled rows count as wrong; without them {} % ({} of {})",
            arm.arm,
            percent(rest.value),
            rest.right,
            rest.n
        );
    } else if arm.infrastructure == Infrastructure::Excluded && arm.classes.infrastructure > 0 {
        let _ = writeln!(
            text,
            "{}: {} questions failed for the infrastructure and are not counted; run them again",
            arm.arm, arm.classes.infrastructure
        );
    }
    text
}

fn tasks(report: &Report) -> String {
    let mut header = vec!["task (right of questions)"];
    header.extend(report.arms.iter().map(|arm| arm.arm.as_str()));
    let mut table = Table::new(&header);
    let reference = report.arms.iter().find(|arm| arm.arm == report.reference);
    for task in reference.into_iter().flat_map(|arm| arm.tasks.keys()) {
        let mut cells = vec![task.clone()];
        cells.extend(report.arms.iter().map(|arm| match arm.tasks.get(task) {
            Some(share) => format!("{} ({}/{})", percent(share.value), share.right, share.n),
            None => "-".to_owned(),
        }));
        table.row(cells);
    }
    format!("\n{}", table.render())
}

fn cost(report: &Report) -> String {
    let known = |arm: &&ArmReport| {
        arm.size_gb.is_some() || arm.seconds_per_question.is_some() || arm.divergence.is_some()
    };
    if !report.arms.iter().any(|arm| known(&arm)) {
        return String::new();
    }
    let mut table = Table::new(&[
        "arm",
        "macro %",
        "retention % (macro)",
        "retention % (micro)",
        "KL, 1e-3 nats a token",
        "memory",
        "as published",
        "resident",
        "s/question",
    ]);
    for arm in &report.arms {
        let comparison = report.comparisons.iter().find(|c| c.arm == arm.arm);
        let retention = |pick: fn(&Comparison) -> Option<Difference>| match comparison {
            Some(comparison) => {
                pick(comparison).map_or("-".to_owned(), |found| with_interval(&found))
            }
            None => "100".to_owned(),
        };
        let size = arm.size_gb;
        table.row(vec![
            arm.arm.clone(),
            percent(arm.r#macro.value),
            retention(|c| c.retention_macro),
            retention(|c| c.retention_micro),
            arm.divergence.as_ref().map_or("-".to_owned(), |of| {
                millinats(of.kl.value, of.kl.interval.lo, of.kl.interval.hi)
            }),
            gigabytes(size.map(|size| size.computed)),
            gigabytes(size.and_then(|size| size.published)),
            gigabytes(arm.resident_gb),
            arm.seconds_per_question
                .map_or("-".to_owned(), |seconds| format!("{seconds:.1}")),
        ]);
    }
    let note = if report.arms.iter().any(|arm| arm.resident_gb.is_some()) {
        "resident: one server when this arm had been asked; arms of one server are asked one after the other, and its memory grows\n"
    } else {
        ""
    };
    format!("\n{}{note}", table.render())
}

fn repeats(report: &Report) -> String {
    let mut text = String::new();
    for arm in &report.arms {
        let Some(repeats) = &arm.repeats else {
            continue;
        };
        let _ = write!(
            text,
            "\n{}: {} attempts a question;",
            arm.arm, repeats.attempts
        );
        for (k, any) in &repeats.pass_any {
            let all = &repeats.pass_all[k];
            let (any, all) = (percent(any.value), percent(all.value));
            let _ = write!(text, " pass@{k} {any} %, all of {k} {all} %;");
        }
        let _ = writeln!(
            text,
            " a whole run varies by ± {} points (one standard deviation)",
            percent(repeats.between_runs)
        );
    }
    text
}

fn comparisons(report: &Report) -> String {
    if report.comparisons.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "against the reference",
        "micro points",
        "macro points",
        "only it / only ref",
        "p",
        "p by Holm",
        "p equality",
        "test",
        "may be said",
    ]);
    for c in &report.comparisons {
        table.row(vec![
            c.arm.clone(),
            with_interval(&c.difference_micro),
            with_interval(&c.difference_macro),
            c.pairs.map_or("not paired".to_owned(), |p| {
                format!("{} / {}", p.only_a, p.only_b)
            }),
            p_value(c.p),
            p_value(c.p_holm),
            p_value(c.equivalence.p()),
            c.test.to_owned(),
            said(c, report.alpha).to_owned(),
        ]);
    }
    format!(
        "\nreference: {}; equality means within ± {} points, level {} %\n{}",
        report.reference,
        percent(report.margin),
        percent(report.alpha),
        table.render()
    )
}

fn said(comparison: &Comparison, alpha: f64) -> &'static str {
    let differs = comparison.p_holm < alpha;
    let lower = comparison.difference_micro.value < 0.0;
    match comparison.outcome {
        Outcome::Parity if differs && lower => "parity; lower, by less than the margin",
        Outcome::Parity if differs => "parity; higher, by less than the margin",
        Outcome::Parity => "parity",
        Outcome::Lower => "lower",
        Outcome::Higher => "higher",
        Outcome::Undecided => "neither a difference nor equality is shown",
    }
}

fn pairs(report: &Report) -> String {
    if report.pairs.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "pair",
        "micro points",
        "only first / only second",
        "p",
        "p by Holm",
        "KL first less second, 1e-3 nats a token",
        "KL: p by Holm",
        "of the answers may be said",
    ]);
    for pair in &report.pairs {
        let c = &pair.answers;
        let kl = pair.divergence.as_ref();
        table.row(vec![
            format!("{} against {}", c.arm, c.reference),
            with_interval(&c.difference_micro),
            c.pairs.map_or("not paired".to_owned(), |p| {
                format!("{} / {}", p.only_a, p.only_b)
            }),
            p_value(c.p),
            p_value(c.p_holm),
            kl.map_or("-".to_owned(), |of| {
                millinats(of.kl.value, of.kl.interval.lo, of.kl.interval.hi)
            }),
            kl.map_or("-".to_owned(), |of| p_value(of.p_holm)),
            said(c, report.alpha).to_owned(),
        ]);
    }
    format!("\n{}", table.render())
}

fn claims(report: &Report) -> String {
    if report.claims.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["claim", "verdict", "found", "where", "note"]);
    for judged in &report.claims {
        let share = judged.found.abs() < 3.0;
        let mut found = if share {
            percent(judged.found)
        } else {
            format!("{:.0}", judged.found)
        };
        if let Some(range) = judged.interval {
            let _ = write!(found, " {}", interval(range.lo, range.hi));
        }
        let verdict = match judged.verdict {
            Verdict::Holds => "holds",
            Verdict::Fails => "FAILS",
            Verdict::Undecided => "undecided",
        };
        table.row(vec![
            judged.claim.kind.to_string(),
            verdict.to_owned(),
            found,
            judged.claim.source.clone(),
            judged.note.clone().unwrap_or_default(),
        ]);
    }
    format!("\n{}", table.render())
}

fn power(report: &Report) -> String {
    let power = &report.power;
    let mut text = format!(
        "\n{} questions show, with a power of 80 %, differences of {} points between independent arms; between paired arms\nthat answer ",
        power.questions,
        percent(power.unpaired_difference)
    );
    let paired = power
        .paired_difference
        .iter()
        .map(|(share, points)| format!("{share} % differently, {} points", percent(*points)));
    text += &paired.collect::<Vec<_>>().join("; ");
    let needed = power.equivalence_questions.iter();
    let needed = needed.map(|(share, questions)| format!("{questions} at {share} %"));
    let _ = writeln!(
        text,
        ".\nEquality within ± {} points of arms that are equal takes {} questions.",
        percent(report.margin),
        needed.collect::<Vec<_>>().join(", ")
    );
    text
}

/// One decimal, without the sign of percent.
fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn interval(lo: f64, hi: f64) -> String {
    format!("[{}, {}]", percent(lo), percent(hi))
}

fn with_interval(found: &Difference) -> String {
    let range = interval(found.interval.lo, found.interval.hi);
    format!("{} {range}", percent(found.value))
}

/// Thousandths of a nat.
fn millinats(value: f64, lo: f64, hi: f64) -> String {
    let [value, lo, hi] = [value, lo, hi].map(|x| number(1e3 * x));
    format!("{value} [{lo}, {hi}]")
}

fn gigabytes(size: Option<f64>) -> String {
    size.map_or("-".to_owned(), |gb| bytes((1e9 * gb) as u64))
}

fn p_value(p: f64) -> String {
    if p < 0.001 {
        format!("{p:.0e}")
    } else {
        format!("{p:.3}")
    }
}
