//! `xgraft verify`

use std::process::ExitCode;
use xgraft_results::human::percent;

use serde_json::json;
use xgraft_checkpoint::{Adapter, Checkpoint};
use xgraft_lora_extract::{Optimum, Verdict, Verification, VerifyConfig, VerifyEvent, verify};

use crate::args::{Always, Verify};
use crate::interrupt;
use crate::output::{Account, begin, commit, judged, print_findings, say, say_json};
use crate::progress::Progress;
use crate::table::Table;

pub(crate) fn run(args: &Verify, always: &Always) -> anyhow::Result<ExitCode> {
    let config = VerifyConfig {
        optimum: match (args.exact, args.no_optimum) {
            (true, _) => Optimum::Exact,
            (_, true) => Optimum::Skip,
            _ => Optimum::Randomized,
        },
        max_error: args.max_error,
        max_uncovered: args.max_uncovered,
        seed: args.random.seed.wrapping_add(1),
    };
    let base = Checkpoint::open(&args.base)?;
    let tuned = Checkpoint::open(&args.tuned)?;
    let original = args.original.as_ref().map(Checkpoint::open).transpose()?;
    let adapter = Adapter::open(&args.adapter)?;
    let work = json!({
        "exact": args.exact,
        "original": args.original.is_some(),
        "optimum": !args.no_optimum,
        "max_error": args.max_error,
        "max_uncovered": args.max_uncovered,
    });
    let inputs = [&args.base, &args.tuned, &args.adapter];
    let inputs = inputs.into_iter().chain(&args.original);
    let out = begin(args.out.as_ref(), args.output.force, &work, inputs)?;
    let progress = Progress::new("verify", "weight");
    let result = verify(
        &base,
        &tuned,
        original.as_ref(),
        &adapter,
        &config,
        &|event| {
            match event {
                VerifyEvent::Planned { elements } => progress.begin(elements, 0),
                VerifyEvent::Begin { module } => progress.subject(module),
                VerifyEvent::Done { elements } => progress.advance(elements),
                _ => {}
            }
            interrupt::check()
        },
    );
    progress.finish();
    let (report, inputs) = result?;
    if let Some(out) = out {
        let account = Account {
            verb: "verify",
            config: work,
            seed: Some(config.seed),
            inputs,
            rows: report.rows("adapter"),
            report: &report,
            findings: &report.findings,
        };
        commit(out, account)?;
    }
    if always.json {
        say_json(&report)?;
    } else {
        print(&report)?;
    }
    print_findings(&report.findings);
    Ok(judged(report.passed))
}

fn print(report: &Verification) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "module",
        "rank",
        "error",
        "base alone",
        "residual",
        "optimum",
        "excess",
        "projection",
        "verdict",
    ]);
    for m in &report.modules {
        table.row(vec![
            m.module.clone(),
            m.rank.to_string(),
            percent(m.relative_error),
            percent(m.base_error),
            percent(m.update_residual),
            m.optimum.map_or_else(|| "-".into(), percent),
            m.excess.map_or_else(|| "-".into(), percent),
            format!("{:.4}", m.judged().projection),
            verdict(m.verdict).into(),
        ]);
    }
    say(&table.render())?;
    say(&format!(
        "{} modules: ‖W_base + BA − W_tuned‖/‖W_tuned‖ = {} with the adapter, {} without; {} of tuned − base is in tensors that the adapter does not change",
        report.modules.len(),
        percent(report.relative_error),
        percent(report.base_error),
        percent(report.uncovered_share),
    ))?;
    if let Some(o) = &report.against_original {
        say(&format!(
            "against the original base: noise {:.3} times the fine-tune; of the fine-tune, cosine {:.4} served, sign kept in {}",
            o.noise_ratio,
            o.delta_cosine,
            percent(o.sign_agreement)
        ))?;
    }
    Ok(())
}

fn verdict(v: Verdict) -> &'static str {
    match v {
        Verdict::Ok => "ok",
        Verdict::Unrelated => "UNRELATED",
        Verdict::FlippedSign => "FLIPPED SIGN",
        Verdict::WrongScale => "WRONG SCALE",
        Verdict::NoBetterThanBase => "NO BETTER THAN BASE",
        Verdict::AboveLimit => "ABOVE LIMIT",
    }
}
