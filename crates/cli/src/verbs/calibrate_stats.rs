//! `xgraft calibrate stats`

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use xgraft_calibration::{Collector, Error, Observation, SAMPLES, TokenizedSet, observe};
use xgraft_checkpoint::{ActivationStats, Checkpoint, Digest, Identity as _, Observed, OutputDir};
use xgraft_model::{Model, Options};
use xgraft_results::human::percent;
use xgraft_results::{Finding, Input, Row};
use xgraft_tokenizer::Tokenizer;

use super::calibrate::{LONGEST, template};
use crate::args::{Always, Observe, RunArgs};
use crate::interrupt;
use crate::output::{Account, commit, digest, print_findings, say, say_json};
use crate::progress::Progress;

/// Where an unfinished run keeps what it has.
const UNFINISHED: &str = "unfinished.safetensors";

/// How often that is written.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// What an account of statistics says.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    samples: u64,
    tokens: u64,
    limit: u64,
    cut_samples: u64,
    cut_tokens: u64,
    modules: Vec<Module>,
}

#[derive(Debug, Serialize)]
struct Module {
    module: String,
    channels: usize,
    amax: f32,
    mean_token_amax: f64,
    dead_channels: usize,
}

pub(crate) fn run(args: &Observe, always: &Always) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.model)?;
    let model = open(&args.model, args.pool.threads)?;
    let limit = limit(&args.run, &model);
    let samples = args.set.join(SAMPLES);
    let set = digest("set", &samples)?;
    let settings = json!({"max_seq_len": limit, "limit": args.run.limit});
    let work = json!({
        "verb": "calibrate stats",
        "config": settings,
        "model": checkpoint.identity_json(),
        "set": set.blake3,
    });
    let out = OutputDir::create(&args.out, args.output.force, &work)?;
    out.refuse_input(&args.model)?;
    out.refuse_input(&args.set)?;
    let (inputs, tensors) = digests(&checkpoint)?;
    let observed = Observed {
        model: tensors,
        set: set.blake3.clone(),
        limit: limit as u64,
        ..Observed::default()
    };
    let unfinished = out.path().join(UNFINISHED);
    let collector = match unfinished.is_file() {
        true => Collector::resume(&model, &ActivationStats::open(&unfinished)?)?,
        false => Collector::new(&model, observed),
    };
    let collector = match collect(args, &model, limit, collector, &unfinished) {
        Ok(collector) => collector,
        Err(error) => {
            let resumed = error
                .downcast_ref::<Error>()
                .is_some_and(Error::can_be_resumed);
            if !resumed {
                out.discard()?;
            }
            return Err(error);
        }
    };
    let stats = collector.stats();
    stats.write(&out.path().join(ActivationStats::FILE))?;
    if unfinished.is_file() {
        fs_err::remove_file(&unfinished)?;
    }
    finish(
        &stats,
        settings,
        [vec![set], inputs].concat(),
        out,
        &args.out,
        always,
    )
}

pub(super) fn open(dir: &Path, threads: Option<usize>) -> anyhow::Result<Model> {
    let options = Options {
        threads: threads.unwrap_or(0),
        ..Options::default()
    };
    Ok(Model::open(dir, &options)?)
}

/// Where samples are cut.
pub(super) fn limit(args: &RunArgs, model: &Model) -> usize {
    (args.max_seq_len as usize).min(model.spec().max_positions)
}

/// Of every tensor of a checkpoint.
fn digests(
    checkpoint: &Checkpoint,
) -> anyhow::Result<(Vec<Input>, std::collections::BTreeMap<String, String>)> {
    let mut inputs = Vec::new();
    for weight in checkpoint.weights() {
        let stored = checkpoint.stored_tensors(weight)?;
        let digests = stored.iter().map(|t| checkpoint.stream(t, |_| Ok(())));
        let digests = digests.collect::<Result<Vec<_>, _>>()?;
        inputs.push(Input {
            role: "model".into(),
            tensor: Some(weight.tensor.clone()),
            file: checkpoint.shards()[stored[0].shard].display().to_string(),
            blake3: Digest::of_all(&digests).to_hex(),
            bytes: stored.iter().map(|t| t.bytes).sum(),
        });
    }
    let tensors = inputs.iter().map(|input| {
        (
            input.tensor.clone().unwrap_or_default(),
            input.blake3.clone(),
        )
    });
    let tensors = tensors.collect();
    Ok((inputs, tensors))
}

fn collect(
    args: &Observe,
    model: &Model,
    limit: usize,
    mut collector: Collector,
    unfinished: &Path,
) -> anyhow::Result<Collector> {
    let tokenizer = Tokenizer::open(&args.model)?.with_text_limit(LONGEST);
    let template = template(&args.model)?;
    let path = args.set.join(SAMPLES);
    let all = lines(&path)?.min(args.run.limit.unwrap_or(u64::MAX));
    let samples = TokenizedSet::open(&path, &tokenizer, template.as_ref(), limit)?;
    let how = Observation {
        batch_tokens: args.run.batch_tokens as usize,
        longest: limit,
    };
    let progress = Progress::new("calibrate", "sample");
    progress.begin(all, collector.samples());
    let (seen, saved) = (
        RefCell::new(collector.samples()),
        RefCell::new(Instant::now()),
    );
    let result = observe(
        model,
        samples.take(usize::try_from(all)?),
        how,
        &mut collector,
        &mut |collector| {
            progress.advance(collector.samples() - seen.replace(collector.samples()));
            let asked = interrupt::check();
            if asked.is_break() || saved.borrow().elapsed() > SAVE_EVERY {
                collector.stats().write(unfinished)?;
                saved.replace(Instant::now());
            }
            Ok(match asked {
                ControlFlow::Break(()) => ControlFlow::Break(()),
                ControlFlow::Continue(()) => ControlFlow::Continue(()),
            })
        },
    );
    progress.finish();
    result?;
    Ok(collector)
}

/// Lines of a file, in constant memory.
pub(super) fn lines(path: &Path) -> anyhow::Result<u64> {
    use std::io::BufRead as _;
    let mut reader = std::io::BufReader::new(fs_err::File::open(path)?);
    let mut lines = 0;
    while reader.skip_until(b'\n')? > 0 {
        lines += 1;
    }
    Ok(lines)
}

fn finish(
    stats: &ActivationStats,
    settings: Value,
    inputs: Vec<Input>,
    out: OutputDir,
    path: &Path,
    always: &Always,
) -> anyhow::Result<ExitCode> {
    let report = report(stats);
    let findings = findings(&report);
    let account = Account {
        verb: "calibrate stats",
        config: settings,
        seed: None,
        inputs,
        rows: rows(&report),
        report: &report,
        findings: &findings,
    };
    commit(out, account)?;
    if always.json {
        say_json(&report)?;
    } else {
        say(&format!(
            "{} linear layers, {} samples, {} tokens; {} samples cut at {} tokens ({} of the tokens lost)\nstatistics: {}",
            report.modules.len(),
            report.samples,
            report.tokens,
            report.cut_samples,
            report.limit,
            percent(report.cut_tokens as f64 / (report.tokens + report.cut_tokens).max(1) as f64),
            path.display()
        ))?;
    }
    print_findings(&findings);
    Ok(ExitCode::SUCCESS)
}

fn report(stats: &ActivationStats) -> Report {
    let observed = &stats.observed;
    let modules = stats.modules.iter().map(|(module, seen)| Module {
        module: module.clone(),
        channels: seen.amax_channel.len(),
        amax: seen.amax(),
        mean_token_amax: seen.mean_token_amax(),
        dead_channels: seen.dead_channels(),
    });
    Report {
        schema: "xgraft.activation-report/1",
        samples: observed.samples,
        tokens: observed.tokens,
        limit: observed.limit,
        cut_samples: observed.cut_samples,
        cut_tokens: observed.cut_tokens,
        modules: modules.collect(),
    }
}

fn rows(report: &Report) -> Vec<Row> {
    let counts = [
        ("samples", report.samples),
        ("tokens", report.tokens),
        ("samples_cut", report.cut_samples),
        ("tokens_cut", report.cut_tokens),
    ];
    let counts = counts.map(|(metric, value)| Row::new(metric, value as f64));
    let modules = report.modules.iter().flat_map(|m| {
        [
            ("activation_amax", f64::from(m.amax)),
            ("activation_mean_token_amax", m.mean_token_amax),
            ("activation_dead_channels", m.dead_channels as f64),
        ]
        .map(|(metric, value)| Row::new(metric, value).module(&m.module))
    });
    let rows = counts.into_iter().chain(modules);
    rows.map(|row| row.source("calibrate stats")).collect()
}

fn findings(report: &Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    if report.cut_samples > 0 {
        let text = format!(
            "{} of {} samples are longer than {} tokens: {} tokens were not run",
            report.cut_samples, report.samples, report.limit, report.cut_tokens
        );
        findings.push(Finding::warning("truncation", "samples", &text));
    }
    let widest = report.modules.iter().map(|m| m.channels).max().unwrap_or(0);
    if report.tokens < widest as u64 {
        let text = format!(
            "{} tokens for {widest} input channels: what a channel needs is hardly known",
            report.tokens
        );
        findings.push(Finding::warning("few-tokens", "samples", &text));
    }
    for module in report.modules.iter().filter(|m| m.dead_channels > 0) {
        let text = format!(
            "{} of {} input channels were zero in every token",
            module.dead_channels, module.channels
        );
        findings.push(Finding::warning("dead-channels", &module.module, &text));
    }
    findings
}
