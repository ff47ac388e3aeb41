//! `xgraft quantize`

use std::process::ExitCode;

use xgraft_block_scale::ScaleDtype;
use xgraft_checkpoint::{Checkpoint, OutputDir};
use xgraft_quantize::{Config, Conversion, Fp8Layout, Scheme, fingerprint, quantize};

use crate::args::{Global, LayoutArg, Quantize, ScaleArg, SchemeArg};
use crate::output::{Account, commit, say, say_json};
use crate::progress::{Progress, rewriting};
use crate::table::{bytes, percent};

pub(crate) fn run(args: &Quantize, global: &Global) -> anyhow::Result<ExitCode> {
    let layout = match args.layout {
        LayoutArg::Hf => Fp8Layout::Hf,
        LayoutArg::CompressedTensors => Fp8Layout::CompressedTensors,
    };
    let config = Config {
        scheme: match args.scheme {
            SchemeArg::Fp8Block => Scheme::Fp8Block,
        },
        layout,
        scale: match (args.scale_dtype, layout) {
            (Some(ScaleArg::F32), _) | (None, Fp8Layout::Hf) => ScaleDtype::F32,
            (Some(ScaleArg::Bf16), _) | (None, Fp8Layout::CompressedTensors) => ScaleDtype::Bf16,
        },
        max_shard_bytes: args.shards.max_shard_size,
    };
    config.validate()?;
    let source = Checkpoint::open(&args.dir)?;
    let work = fingerprint("quantize", &source, &config);
    let out = OutputDir::create(&args.out, global.force, &work)?;
    out.refuse_input(&args.dir)?;
    let progress = Progress::new("quantize", "byte");
    let result = quantize(&source, &config, &out, &|event| {
        rewriting(&progress, &event).map_err(|()| xgraft_quantize::Error::Interrupted)
    });
    progress.finish();
    let done = result?;
    finish(&done, "quantize", work, out, &args.out, global)
}

/// Writes the account of a conversion and prints its summary.
pub(super) fn finish(
    done: &Conversion,
    verb: &'static str,
    mut work: serde_json::Value,
    out: OutputDir,
    path: &std::path::Path,
    global: &Global,
) -> anyhow::Result<ExitCode> {
    let report = &done.report;
    let account = Account {
        verb,
        config: work["config"].take(),
        seed: None,
        inputs: done.inputs.clone(),
        report,
        rows: report.rows(verb),
        findings: &[],
    };
    commit(out, account)?;
    if global.json {
        say_json(report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let worst = report
        .modules
        .iter()
        .max_by(|a, b| a.relative_error.total_cmp(&b.relative_error));
    say(&format!(
        "{} weights, {} → {}; rounding error {} of ‖W‖{}",
        report.modules.len(),
        bytes(report.bytes_in),
        bytes(report.bytes_out),
        percent(report.relative_error),
        worst.map_or_else(String::new, |m| format!(
            " (worst {} in {})",
            percent(m.relative_error),
            m.module
        )),
    ))?;
    say(&format!("checkpoint: {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}
