//! `xgraft quantize`

use std::process::ExitCode;
use xgraft_results::human::{bytes, percent};

use anyhow::bail;
use xgraft_block_scale::ScaleDtype;
use xgraft_checkpoint::{ActivationStats, Checkpoint, OutputDir};
use xgraft_quantize::{
    Config, Conversion, Known, Layout, Report, Scheme, Search, fingerprint, quantize,
};

use crate::args::{Always, LayoutArg, Quantize, ScaleArg, SchemeArg, SearchArg};
use crate::output::{Account, commit, digest, print_grouped, say, say_json};
use crate::progress::{Progress, rewriting};

/// The most findings of one kind that are printed.
const LIST_FINDINGS: usize = 4;

pub(crate) fn run(args: &Quantize, always: &Always) -> anyhow::Result<ExitCode> {
    let scheme = scheme(args.scheme);
    let layout = match args.layout {
        None => scheme.usual_layout(),
        Some(LayoutArg::Hf) => Layout::Hf,
        Some(LayoutArg::CompressedTensors) => Layout::CompressedTensors,
        Some(LayoutArg::AwqOrder) => Layout::AwqOrder,
        Some(LayoutArg::GptqOrder) => Layout::GptqOrder,
        Some(LayoutArg::BitsAndBytes) => Layout::BitsAndBytes,
        Some(LayoutArg::Simulated) => Layout::Simulated,
    };
    if args.scale_dtype.is_some() && layout != Layout::Hf {
        bail!(
            "--scale-dtype: layout {} has a type of its own for scales; leave the option out, or use --layout hf",
            layout.name()
        );
    }
    let config = Config {
        layout,
        scale: match args.scale_dtype {
            Some(ScaleArg::Bf16) => ScaleDtype::Bf16,
            Some(ScaleArg::F32) | None => ScaleDtype::F32,
        },
        group: args.group_size,
        symmetric: !args.asymmetric,
        search: match args.search {
            SearchArg::Amax => Search::Amax,
            SearchArg::Mse => Search::Mse,
            SearchArg::Delta => Search::Delta,
        },
        awq: args.awq,
        keep: args.keep.clone(),
        max_shard_bytes: args.shards.max_shard_size,
        ..Config::of(scheme)
    };
    config.validate()?;
    let source = Checkpoint::open(&args.dir)?;
    let base = args.base.as_ref().map(Checkpoint::open).transpose()?;
    let stats = args.stats.as_ref().map(ActivationStats::open).transpose()?;
    let mut work = fingerprint("quantize", &source, base.as_ref(), &config);
    let mut inputs = Vec::new();
    if let Some(path) = &args.stats {
        let file = match path.is_dir() {
            true => path.join(ActivationStats::FILE),
            false => path.clone(),
        };
        let input = digest("stats", &file)?;
        work["config"]["stats"] = input.blake3.clone().into();
        inputs.push(input);
    }
    let out = OutputDir::create(&args.out, args.output.force, &work)?;
    out.refuse_input(&args.dir)?;
    for base in args.base.iter().chain(&args.stats) {
        out.refuse_input(base)?;
    }
    let progress = Progress::new("quantize", "byte");
    let known = Known {
        base: base.as_ref(),
        stats: stats.as_ref(),
    };
    let result = quantize(&source, known, &config, &out, &|event| {
        rewriting(&progress, &event).map_err(|()| xgraft_quantize::Error::Interrupted)
    });
    progress.finish();
    let (mut done, out) = finished(result, out)?;
    done.inputs.append(&mut inputs);
    finish(&done, "quantize", work, out, &args.out, always)
}

fn scheme(arg: SchemeArg) -> Scheme {
    match arg {
        SchemeArg::Fp8Block => Scheme::Fp8Block,
        SchemeArg::Fp8Channel => Scheme::Fp8Channel,
        SchemeArg::Fp8Tensor => Scheme::Fp8Tensor,
        SchemeArg::Int8 => Scheme::Int8,
        SchemeArg::Int4 => Scheme::Int4,
        SchemeArg::Int3 => Scheme::Int3,
        SchemeArg::Int2 => Scheme::Int2,
        SchemeArg::Nf4 => Scheme::Nf4,
        SchemeArg::Mxfp4 => Scheme::Mxfp4,
        SchemeArg::Nvfp4 => Scheme::Nvfp4,
        SchemeArg::Fp8TensorStatic => Scheme::Fp8TensorStatic,
    }
}

/// What a conversion made; one that failed for good leaves nothing in the way of another.
pub(super) fn finished(
    result: Result<Conversion, xgraft_quantize::Error>,
    out: OutputDir,
) -> anyhow::Result<(Conversion, OutputDir)> {
    match result {
        Ok(done) => Ok((done, out)),
        Err(error) => {
            if !error.can_be_resumed() {
                out.discard()?;
            }
            Err(error.into())
        }
    }
}

/// Writes the account of a conversion and prints its summary.
pub(super) fn finish(
    done: &Conversion,
    verb: &'static str,
    mut work: serde_json::Value,
    out: OutputDir,
    path: &std::path::Path,
    always: &Always,
) -> anyhow::Result<ExitCode> {
    let report = &done.report;
    let account = Account {
        verb,
        config: work["config"].take(),
        seed: None,
        inputs: done.inputs.clone(),
        report,
        rows: report.rows(verb),
        findings: &report.findings,
    };
    commit(out, account)?;
    print_grouped(&report.findings, LIST_FINDINGS);
    if always.json {
        say_json(report)?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "{} weights, {} → {}; {}",
        report.modules.len(),
        bytes(report.bytes_in),
        bytes(report.bytes_out),
        rounding(report),
    ))?;
    if let Some(left) = report.delta() {
        say(&format!(
            "of the fine-tune: cosine {:.4}, sign kept in {}",
            left.cosine(),
            percent(left.sign_agreement())
        ))?;
    }
    if let (Some(all), Some(mean)) = (report.output(), report.mean_output_error()) {
        say(&format!(
            "error of the outputs {} of all, {} in the mean of the layers",
            percent(all.relative()),
            percent(mean)
        ))?;
    }
    if !report.scaled.is_empty() {
        let moved = report.scaled.iter().filter(|s| s.ratio.is_some()).count();
        say(&format!(
            "AWQ: channels scaled after {moved} of {} norms and layers",
            report.scaled.len()
        ))?;
    }
    let simulated = match report.simulated.as_slice() {
        [] => String::new(),
        formats => format!(
            " (simulated: values of {}, whatever stores them)",
            formats.join(", then ")
        ),
    };
    say(&format!("checkpoint: {}{simulated}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// What rounding has cost, as far as it was measured.
fn rounding(report: &Report) -> String {
    let Some(error) = report.relative_error else {
        return "each value rounded to BF16 once".to_owned();
    };
    let losses = report.modules.iter().filter_map(|m| Some((m, m.loss?)));
    let worst = losses.max_by(|a, b| a.1.relative_error.total_cmp(&b.1.relative_error));
    let worst = worst.map_or_else(String::new, |(m, loss)| {
        format!(" (worst {} in {})", percent(loss.relative_error), m.module)
    });
    format!("quantization error {} of ‖W‖{worst}", percent(error))
}
