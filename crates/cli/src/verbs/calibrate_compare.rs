//! `xgraft calibrate compare`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use xgraft_calibration::{
    Candidate, Divergence, Error, Observation, OfSample, Positions, Rounding, SAMPLES,
    TokenizedSet, compare,
};
use xgraft_checkpoint::{Adapter, Checkpoint, Identity as _};
use xgraft_dataset::Distance;
use xgraft_model::{LoraAdapter, Model};
use xgraft_results::Row;
use xgraft_results::human::percent;
use xgraft_tokenizer::Tokenizer;

use super::calibrate::{LONGEST, template};
use super::calibrate_stats::{limit, lines, open};
use crate::args::{Always, Compare};
use crate::interrupt;
use crate::output::{Account, begin, commit, digest, say, say_json};
use crate::progress::Progress;

/// The attempts of a finished run.
const ANSWERS: &str = "answers.jsonl";

/// The distance of each question, where the samples are the answers of a run.
const DISTANCES: &str = "distances.jsonl";

pub(crate) fn run(args: &Compare, always: &Always) -> anyhow::Result<ExitCode> {
    let (original, quantized) = (
        Checkpoint::open(&args.reference)?,
        Checkpoint::open(&args.dir)?,
    );
    let reference = open(&args.reference, args.pool.threads)?;
    let candidate = open(&args.dir, args.pool.threads)?;
    let mut rounding = match args.weights_only {
        true => Rounding::none(candidate.spec()),
        false => Rounding::of(&quantized, candidate.spec())?,
    };
    let adapter = args.adapter.as_ref();
    let lora = adapter.map(|dir| LoraAdapter::open(dir, candidate.spec()));
    let lora = lora.transpose()?;
    let asked = Samples::of(&args.set)?;
    let set = digest("set", &args.set.join(asked.file()))?;
    let settings = json!({
        "max_seq_len": limit(&args.run, &reference),
        "limit": args.run.limit,
        "every": args.every,
        "activations": rounding.name(),
        "answers_only": args.answers_only,
        "chat_template_kwargs": asked.kwargs(),
    });
    let adapter = adapter.map(Adapter::open).transpose()?;
    let work = json!({
        "verb": "calibrate compare",
        "config": settings,
        "reference": original.identity_json(),
        "candidate": quantized.identity_json(),
        "adapter": adapter.map(|adapter| adapter.identity_json()),
        "set": set.blake3,
    });
    let inputs = [&args.reference, &args.dir, &args.set];
    let inputs = inputs.into_iter().chain(&args.adapter);
    let out = begin(args.out.as_ref(), args.output.force, &work, inputs)?;
    let held = Candidate {
        model: &candidate,
        adapter: lora.as_ref(),
        rounding: &mut rounding,
    };
    let (found, distances) = match measure(args, &reference, held, &asked) {
        Ok(found) => found,
        Err(error) => {
            out.map_or(Ok(()), xgraft_checkpoint::OutputDir::discard)?;
            return Err(error);
        }
    };
    if let Some(out) = out {
        if !distances.is_empty() {
            write(&out.path().join(DISTANCES), &distances)?;
        }
        let account = Account {
            verb: "calibrate compare",
            config: settings,
            seed: None,
            inputs: vec![set],
            rows: rows(&found),
            report: &found,
            findings: &[],
        };
        commit(out, account)?;
    }
    if always.json {
        say_json(&found)?;
    } else {
        say(&format!(
            "{} samples, {} tokens; activations: {}\nKL {:.6} nats a token (worst sample {:.6}), same likeliest token {}, NLL {:.5} → {:.5}",
            found.samples,
            found.tokens,
            rounding.name(),
            found.kl,
            found.worst_sample_kl,
            percent(found.same_best),
            found.reference_nll,
            found.candidate_nll,
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where samples come from.
enum Samples {
    /// A set of `calibrate build`.
    Set,
    /// A run of `eval run`, with its `chat_template_kwargs`.
    Run(Map<String, Value>),
}

impl Samples {
    fn of(dir: &Path) -> anyhow::Result<Self> {
        if dir.join(SAMPLES).is_file() || !dir.join(ANSWERS).is_file() {
            return Ok(Self::Set);
        }
        let file = dir.join("run.json");
        let read =
            || -> anyhow::Result<Value> { Ok(serde_json::from_slice(&fs_err::read(&file)?)?) };
        let run = read().with_context(|| format!("cannot read {}", file.display()))?;
        let kwargs = &run["sampling"]["extra"]["chat_template_kwargs"];
        Ok(Self::Run(kwargs.as_object().cloned().unwrap_or_default()))
    }

    fn file(&self) -> &'static str {
        match self {
            Self::Set => SAMPLES,
            Self::Run(_) => ANSWERS,
        }
    }

    fn kwargs(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Set => None,
            Self::Run(kwargs) => Some(kwargs),
        }
    }
}

/// The distances are those of a run's questions; of a set's samples there are none, however many it has.
fn measure(
    args: &Compare,
    reference: &Model,
    candidate: Candidate<'_>,
    asked: &Samples,
) -> anyhow::Result<(Divergence, Vec<Distance>)> {
    let tokenizer = Tokenizer::open(&args.reference)?.with_text_limit(LONGEST);
    let template = template(&args.reference)?;
    let path = args.set.join(asked.file());
    let longest = limit(&args.run, reference).min(limit(&args.run, candidate.model));
    let all = lines(&path)?.min(args.run.limit.unwrap_or(u64::MAX));
    let samples = TokenizedSet::open(&path, &tokenizer, template.as_ref(), longest)?;
    let how = Observation {
        batch_tokens: args.run.batch_tokens as usize,
        longest,
    };
    let progress = Progress::new("compare", "sample");
    progress.begin(all.div_ceil(u64::from(args.every)), 0);
    let mut distances = Vec::new();
    let samples = match asked.kwargs() {
        Some(kwargs) => samples.as_asked(kwargs.clone()),
        None if args.answers_only => samples.with_answers(),
        None => samples,
    };
    let samples = samples
        .take(usize::try_from(all)?)
        .step_by(args.every as usize);
    let positions = match args.answers_only {
        true => Positions::Answers,
        false => Positions::All,
    };
    let found = compare(
        reference,
        candidate,
        samples,
        (how, positions),
        &mut |done| {
            progress.advance(done.len() as u64);
            distances.extend(done.iter().filter_map(distance));
            match interrupt::check().is_break() {
                true => Err(Error::Interrupted),
                false => Ok(()),
            }
        },
    );
    progress.finish();
    Ok((found?, distances))
}

fn distance(sample: &OfSample) -> Option<Distance> {
    Some(Distance {
        question: sample.question.clone()?,
        tokens: sample.tokens,
        kl: sample.kl,
    })
}

fn write(path: &Path, distances: &[Distance]) -> anyhow::Result<()> {
    let mut writer = xgraft_dataset::Writer::create(path)?;
    for distance in distances {
        writer.write(distance)?;
    }
    Ok(writer.finish()?)
}

fn rows(found: &Divergence) -> Vec<Row> {
    let metrics = [
        ("kl", found.kl, "nats"),
        ("worst_sample_kl", found.worst_sample_kl, "nats"),
        ("same_likeliest_token", found.same_best, "share"),
        ("reference_nll", found.reference_nll, "nats"),
        ("candidate_nll", found.candidate_nll, "nats"),
    ];
    let row = |(metric, value, unit): (&str, f64, &str)| {
        Row::new(metric, value)
            .unit(unit)
            .n(found.tokens)
            .source("calibrate compare")
    };
    metrics.into_iter().map(row).collect()
}
