//! `xgraft calibrate compare`

use std::process::ExitCode;

use serde_json::json;
use xgraft_calibration::{
    Divergence, Error, Observation, Positions, Rounding, SAMPLES, TokenizedSet, compare,
};
use xgraft_checkpoint::{Checkpoint, Identity as _};
use xgraft_model::Model;
use xgraft_results::Row;
use xgraft_results::human::percent;
use xgraft_tokenizer::Tokenizer;

use super::calibrate::{LONGEST, template};
use super::calibrate_stats::{limit, lines, open};
use crate::args::{Always, Compare};
use crate::interrupt;
use crate::output::{Account, begin, commit, digest, say, say_json};
use crate::progress::Progress;

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
    let set = digest("set", &args.set.join(SAMPLES))?;
    let settings = json!({
        "max_seq_len": limit(&args.run, &reference),
        "limit": args.run.limit,
        "activations": rounding.name(),
        "answers_only": args.answers_only,
    });
    let work = json!({
        "verb": "calibrate compare",
        "config": settings,
        "reference": original.identity_json(),
        "candidate": quantized.identity_json(),
        "set": set.blake3,
    });
    let inputs = [&args.reference, &args.dir, &args.set];
    let out = begin(args.out.as_ref(), args.output.force, &work, inputs)?;
    let found = match measure(args, &reference, &candidate, &mut rounding) {
        Ok(found) => found,
        Err(error) => {
            out.map_or(Ok(()), xgraft_checkpoint::OutputDir::discard)?;
            return Err(error);
        }
    };
    if let Some(out) = out {
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

fn measure(
    args: &Compare,
    reference: &Model,
    candidate: &Model,
    rounding: &mut Rounding,
) -> anyhow::Result<Divergence> {
    let tokenizer = Tokenizer::open(&args.reference)?.with_text_limit(LONGEST);
    let template = template(&args.reference)?;
    let path = args.set.join(SAMPLES);
    let longest = limit(&args.run, reference).min(limit(&args.run, candidate));
    let all = lines(&path)?.min(args.run.limit.unwrap_or(u64::MAX));
    let samples = TokenizedSet::open(&path, &tokenizer, template.as_ref(), longest)?;
    let how = Observation {
        batch_tokens: args.run.batch_tokens as usize,
        longest,
    };
    let progress = Progress::new("compare", "sample");
    progress.begin(all, 0);
    let mut seen = 0;
    let samples = match args.answers_only {
        true => samples.with_answers(),
        false => samples,
    };
    let samples = samples.take(usize::try_from(all)?);
    let positions = match args.answers_only {
        true => Positions::Answers,
        false => Positions::All,
    };
    let found = compare(
        reference,
        candidate,
        rounding,
        samples,
        (how, positions),
        &mut |done| {
            progress.advance(done - std::mem::replace(&mut seen, done));
            match interrupt::check().is_break() {
                true => Err(Error::Interrupted),
                false => Ok(()),
            }
        },
    );
    progress.finish();
    Ok(found?)
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
