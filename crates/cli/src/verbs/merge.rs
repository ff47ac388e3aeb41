//! `xgraft merge`

use std::process::ExitCode;
use xgraft_results::human::{bytes, percent};

use xgraft_checkpoint::{Adapter, Checkpoint, OutputDir, Quantization};
use xgraft_lora_merge::{Config, fingerprint, merge};

use crate::args::{Always, Merge};
use crate::origin::of_other_weights;
use crate::output::{Account, commit, print_findings, say, say_json};
use crate::progress::{Progress, rewriting};

pub(crate) fn run(args: &Merge, always: &Always) -> anyhow::Result<ExitCode> {
    let config = Config {
        max_shard_bytes: args.shards.max_shard_size,
    };
    let base = Checkpoint::open(&args.base)?;
    let adapter = Adapter::open(&args.adapter)?;
    let mut work = fingerprint(&base, &adapter, &config);
    let out = OutputDir::create(&args.out, args.output.force, &work)?;
    out.refuse_input(&args.base)?;
    out.refuse_input(&args.adapter)?;
    let progress = Progress::new("merge", "byte");
    let result = merge(&base, &adapter, &config, &out, &|event| {
        rewriting(&progress, &event).map_err(|()| xgraft_lora_merge::Error::Interrupted)
    });
    progress.finish();
    let merged = match result {
        Ok(merged) => merged,
        Err(error) => {
            if !error.can_be_resumed() {
                out.discard()?;
            }
            return Err(error.into());
        }
    };
    let report = &merged.report;
    // A quantized base has other bytes than the one that the adapter was made of.
    let float = matches!(base.quantization(), Quantization::None);
    let weights = merged.inputs.iter().filter(|input| input.role == "base");
    let findings: Vec<_> = of_other_weights(&args.adapter, weights.filter(|_| float))
        .into_iter()
        .collect();
    let account = Account {
        verb: "merge",
        config: work["config"].take(),
        seed: None,
        inputs: merged.inputs.clone(),
        report,
        rows: report.rows("merge"),
        findings: &findings,
    };
    commit(out, account)?;
    print_findings(&findings);
    if always.json {
        say_json(report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let worst = report
        .modules
        .iter()
        .max_by(|a, b| a.rounding.total_cmp(&b.rounding));
    say(&format!(
        "{} weights changed, {} written; rounding to the stored format costs at most {} of the update",
        report.modules.len(),
        bytes(report.bytes_out),
        worst.map_or_else(|| "0 %".into(), |m| percent(m.rounding)),
    ))?;
    say(&format!("checkpoint: {}", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}
