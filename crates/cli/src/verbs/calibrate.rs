//! `xgraft calibrate`

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use xgraft_calibration::{Config, Report, SAMPLES, Sample, build, preview};
use xgraft_checkpoint::OutputDir;
use xgraft_dataset::{Question, read_questions};
use xgraft_results::{Finding, Row};
use xgraft_tokenizer::{ChatTemplate, Tokenizer};

use crate::args::{Always, Build, Calibrate, CalibrateVerb};
use crate::output::{Account, commit, digest, print_findings, say, say_json};
use crate::table::Table;

/// The longest text of a sample, in bytes.
pub(super) const LONGEST: usize = 16 << 20;

pub(crate) fn run(args: &Calibrate, always: &Always) -> anyhow::Result<ExitCode> {
    match &args.verb {
        CalibrateVerb::Build(args) => build_set(args, always),
        CalibrateVerb::Stats(args) => super::calibrate_stats::run(args, always),
        CalibrateVerb::Compare(args) => super::calibrate_compare::run(args, always),
    }
}

fn build_set(args: &Build, always: &Always) -> anyhow::Result<ExitCode> {
    let config = Config {
        samples: args.samples as usize,
        max_tokens: args.max_tokens,
        seed: args.random.seed,
        similarity: args.similarity,
        run_of_words: usize::from(args.run_of_words),
        split: args.split,
        allow_contamination: args.allow_contamination,
        drop_leaks: args.drop_leaks,
    };
    let tokenizer = Tokenizer::open(&args.tokenizer)?.with_text_limit(LONGEST);
    let template = template(&args.tokenizer)?;
    let evaluation = args.evaluation.as_deref().map(read_questions).transpose()?;
    let settings = json!({
        "samples": config.samples,
        "max_tokens": config.max_tokens,
        "similarity": config.similarity,
        "run_of_words": config.run_of_words,
        "split": config.split,
        "allow_contamination": config.allow_contamination,
        "drop_leaks": config.drop_leaks,
        "chat_template": template.is_some(),
    });
    let mut inputs = vec![digest("trajectories", &args.results)?];
    inputs.push(digest("tokenizer", &args.tokenizer.join("tokenizer.json"))?);
    if let Some(path) = &args.evaluation {
        inputs.push(digest("evaluation", path)?);
    }
    let work = json!({"verb": "calibrate build", "config": settings, "seed": config.seed, "inputs": inputs});
    let out = OutputDir::create(&args.out, args.output.force, &work)?;
    out.refuse_input(&args.results)?;
    let (samples, report) = set(
        args,
        evaluation.as_deref(),
        &tokenizer,
        template.as_ref(),
        &config,
    )?;
    write(out.path(), &samples, &report)?;
    let findings = findings(&report);
    let account = Account {
        verb: "calibrate build",
        config: settings,
        seed: Some(config.seed),
        inputs,
        rows: rows(&report),
        report: &report,
        findings: &findings,
    };
    commit(out, account)?;
    if always.json {
        say_json(&report)?;
    } else {
        say(&text(&report, &args.out))?;
    }
    print_findings(&findings);
    Ok(ExitCode::SUCCESS)
}

fn set(
    args: &Build,
    evaluation: Option<&[Question]>,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    config: &Config,
) -> anyhow::Result<(Vec<Sample>, Report)> {
    Ok(build(
        &args.results,
        evaluation,
        tokenizer,
        template,
        config,
    )?)
}

/// The chat template of the checkpoint, where it has one.
pub(super) fn template(dir: &Path) -> anyhow::Result<Option<ChatTemplate>> {
    let config = dir.join("tokenizer_config.json");
    let named = fs_err::read_to_string(config).is_ok_and(|text| text.contains("\"chat_template\""));
    if named || dir.join("chat_template.jinja").is_file() {
        return Ok(Some(ChatTemplate::open(dir)?));
    }
    Ok(None)
}

fn write(dir: &Path, samples: &[Sample], report: &Report) -> anyhow::Result<()> {
    let mut lines = String::new();
    for sample in samples {
        lines += &serde_json::to_string(sample)?;
        lines.push('\n');
    }
    fs_err::write(dir.join(SAMPLES), lines)?;
    fs_err::write(dir.join("preview.html"), preview(samples, report))?;
    if !report.evaluation.is_empty() {
        let ids = report.evaluation.join("\n") + "\n";
        fs_err::write(dir.join("evaluation-ids.txt"), ids)?;
    }
    Ok(())
}

/// Attempts that were left out for what they have of the evaluation set.
fn dropped(report: &Report) -> u64 {
    report.leaks.values().sum()
}

fn rows(report: &Report) -> Vec<Row> {
    let tokens = report.tokens;
    let counts = [
        ("samples", report.samples as f64),
        ("tokens", tokens.total as f64),
        ("tokens_used", tokens.used as f64),
        ("samples_cut", tokens.cut as f64),
        ("near_duplicates", report.near_duplicates as f64),
        ("exact_duplicates", report.exact_duplicates as f64),
        ("contaminated", report.contaminated.len() as f64),
        ("leaks_dropped", dropped(report) as f64),
    ];
    let counts = counts.map(|(metric, value)| Row::new(metric, value).source("calibrate"));
    let tasks = report.tasks.iter().flat_map(|(task, share)| {
        let parts = [("taken", share.taken), ("shortfall", share.shortfall())];
        parts.map(|(metric, value)| {
            Row::new(metric, value as f64)
                .task(task)
                .source("calibrate")
        })
    });
    counts.into_iter().chain(tasks).collect()
}

fn findings(report: &Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (task, share) in report
        .tasks
        .iter()
        .filter(|(_, share)| share.shortfall() > 0)
    {
        let text = format!(
            "{} of an even share of {} samples are missing; other tasks give them",
            share.shortfall(),
            share.quota
        );
        findings.push(Finding::warning("shortfall", task, &text).value(share.shortfall() as f64));
    }
    for (kind, count) in &report.secrets {
        let text = format!("{count} attempts have a {kind} in them and are left out");
        findings.push(Finding::warning("secret", "trajectories", &text).value(*count as f64));
    }
    if !report.leaks.is_empty() {
        let (attempts, questions) = (dropped(report), report.leaks.len());
        let text = format!(
            "{attempts} attempts have something of {questions} evaluation questions in them and are left out; report.json names the questions"
        );
        findings.push(Finding::warning("leak", "trajectories", &text).value(attempts as f64));
    }
    if !report.contaminated.is_empty() {
        let text = format!(
            "{} of {} samples have something of the evaluation set in them",
            report.contaminated.len(),
            report.samples
        );
        findings.push(Finding::warning("contamination", "samples", &text));
    }
    let tokens = report.tokens;
    if tokens.cut > 0 {
        let text = format!(
            "{} samples are longer than {} tokens: {} of {} tokens are used",
            tokens.cut, tokens.limit, tokens.used, tokens.total
        );
        findings.push(Finding::warning("truncation", "samples", &text));
    }
    findings
}

fn text(report: &Report, out: &Path) -> String {
    let mut table = Table::new(&["task", "even share", "available", "taken"]);
    for (task, share) in &report.tasks {
        let counts = [share.quota, share.available, share.taken].map(|n| n.to_string());
        table.row([vec![task.clone()], counts.to_vec()].concat());
    }
    let mut text = table.render();
    let mut lengths = Table::new(&["tokens from", "samples"]);
    for bin in &report.histogram {
        lengths.row(vec![bin.from.to_string(), bin.samples.to_string()]);
    }
    let _ = write!(text, "\n{}", lengths.render());
    let tokens = report.tokens;
    let _ = write!(
        text,
        "\n{} samples of {} rows; {} exact and {} near duplicates left out\n{} tokens ({} to {}), {} remain when samples are cut at {}\nset: {}",
        report.samples,
        report.rows,
        report.exact_duplicates,
        report.near_duplicates,
        tokens.total,
        tokens.shortest,
        tokens.longest,
        tokens.used,
        tokens.limit,
        out.display()
    );
    text
}
