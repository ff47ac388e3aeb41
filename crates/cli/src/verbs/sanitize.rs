//! `xgraft sanitize`

use std::process::ExitCode;
use xgraft_results::human::percent;

use serde_json::json;
use xgraft_adapter_sanitize::{Config, Rules, sanitize};
use xgraft_checkpoint::{Adapter, Checkpoint, Identity, OutputDir};

use crate::args::{Always, Sanitize};
use crate::output::{Account, commit, print_findings, say, say_json};
use crate::table::Table;

/// Up to this many dropped tensors are printed one by one; `report.json` has them all.
const LIST_DROPPED: usize = 20;

pub(crate) fn run(args: &Sanitize, always: &Always) -> anyhow::Result<ExitCode> {
    let config = Config {
        rules: Rules {
            policy: args.policy.into(),
            embeddings: args.embeddings,
        },
        max_dropped: args.max_dropped,
    };
    let adapter = Adapter::open(&args.adapter)?;
    let base = match &args.base {
        Some(base) => Some(Checkpoint::open(base)?),
        None => None,
    };
    let settings = json!({
        "policy": config.rules.policy.name(),
        "embeddings": config.rules.embeddings,
        "max_dropped": config.max_dropped,
    });
    let work = json!({
        "verb": "sanitize",
        "config": settings,
        "adapter": adapter.identity_json(),
        "base": base.as_ref().map(Identity::identity_json),
    });
    let out = OutputDir::create(&args.out, args.output.force, &work)?;
    out.refuse_input(&args.adapter)?;
    let report = match sanitize(&adapter, base.as_ref(), &config, &out) {
        Ok(report) => report,
        Err(error) => {
            if let Some(findings) = error.findings() {
                print_findings(findings);
            }
            return Err(error.into());
        }
    };
    let account = Account {
        verb: "sanitize",
        config: settings,
        seed: None,
        inputs: report.inputs.clone(),
        rows: report.rows("sanitize"),
        report: &report,
        findings: &report.findings,
    };
    commit(out, account)?;
    if always.json {
        say_json(&report)?;
    } else {
        let mut table = Table::new(&["dropped", "reason", "share of the update"]);
        for d in report.dropped.iter().take(LIST_DROPPED) {
            let share = d.share.map_or_else(|| "unknown".into(), percent);
            table.row(vec![d.tensor.clone(), d.reason.clone(), share]);
        }
        if !report.dropped.is_empty() {
            say(&table.render())?;
        }
        say(&format!(
            "{} pairs kept (rank ≤ {}), {} tensors dropped: {}{} of the update's energy",
            report.kept.len(),
            report.max_rank,
            report.dropped.len(),
            if report.dropped_share_is_lower_bound {
                "unknown, at least "
            } else {
                ""
            },
            percent(report.dropped_share),
        ))?;
        say(&format!("adapter: {}", args.out.display()))?;
    }
    print_findings(&report.findings);
    Ok(ExitCode::SUCCESS)
}
