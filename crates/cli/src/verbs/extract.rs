//! `xgraft extract`

use std::process::ExitCode;
use xgraft_results::human::{bytes, percent};

use xgraft_adapter_sanitize::Rules;
use xgraft_checkpoint::{Checkpoint, Dtype, OutputDir};
use xgraft_lora_extract::{
    Config, Error, Event, Extraction, ModuleReport, RankRule, Report, Stated, extract, fingerprint,
};

use crate::args::{Always, DtypeArg, Extract, RankArgs};
use crate::interrupt;
use crate::output::{Account, commit, print_findings, say, say_json};
use crate::progress::Progress;
use crate::table::Table;

/// Up to this many modules are printed one by one; more are summed by role.
const LIST_MODULES: usize = 28;

pub(crate) fn run(args: &Extract, always: &Always) -> anyhow::Result<ExitCode> {
    let config = config(args);
    config.validate()?;
    let base = Checkpoint::open(&args.base)?;
    let tuned = Checkpoint::open(&args.tuned)?;
    let work = fingerprint(&base, &tuned, &config);
    let out = OutputDir::create(&args.out, args.output.force, &work)?;
    out.refuse_input(&args.base)?;
    out.refuse_input(&args.tuned)?;
    let progress = Progress::new("extract", "weight");
    let size = std::cell::Cell::new(0);
    let result = extract(&base, &tuned, &config, &out, &|event| {
        match event {
            Event::Planned {
                elements, resumed, ..
            } => progress.begin(elements, resumed),
            Event::Begin { module, elements } => {
                size.set(elements);
                progress.subject(module);
            }
            Event::Step { share } => progress.show((share * size.get() as f64) as u64),
            Event::Done { elements, .. } | Event::Measured { elements } => {
                progress.advance(elements);
            }
            _ => {}
        }
        interrupt::check()
    });
    progress.finish();
    let Extraction { report, inputs } = match result {
        Ok(extraction) => extraction,
        Err(error) => {
            if let Error::TooMuchDropped { findings, .. } = &error {
                print_findings(findings);
            }
            if !error.can_be_resumed() {
                out.discard()?;
            }
            return Err(error.into());
        }
    };
    let account = Account {
        verb: "extract",
        config: config.to_json(),
        seed: Some(config.seed),
        inputs,
        rows: report.rows(&arm(&config)),
        report: &report,
        findings: &report.findings,
    };
    commit(out, account)?;
    if always.json {
        say_json(&report)?;
    } else {
        print(&report, &args.out.display().to_string())?;
    }
    print_findings(&report.findings);
    Ok(ExitCode::SUCCESS)
}

fn config(args: &Extract) -> Config {
    Config {
        rank: rule(&args.rank),
        max_rank: args.max_rank,
        dtype: match args.dtype {
            DtypeArg::Bf16 => Dtype::Bf16,
            DtypeArg::F16 => Dtype::F16,
            DtypeArg::F32 => Dtype::F32,
        },
        rules: Rules {
            policy: args.policy.into(),
            embeddings: args.embeddings,
        },
        max_dropped: args.max_dropped,
        seed: args.random.seed,
        tolerance: args.tolerance,
        base_name: args.base_name.clone(),
    }
}

fn rule(args: &RankArgs) -> RankRule {
    match (args.energy, args.noise_edge, args.budget) {
        (Some(share), _, _) => RankRule::Energy(share),
        (_, true, _) => RankRule::Noise,
        (_, _, Some(bytes)) => RankRule::Budget(bytes),
        _ => RankRule::Fixed(args.rank.unwrap_or(64)),
    }
}

fn arm(config: &Config) -> String {
    match config.rank {
        RankRule::Fixed(rank) => format!("r{rank}"),
        RankRule::Energy(share) => format!("energy {share}"),
        RankRule::Noise => "noise edge".into(),
        RankRule::Budget(budget) => format!("budget {}", bytes(budget)),
    }
}

fn print(report: &Report, out: &str) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "module",
        "shape",
        "‖ΔW‖/‖W‖",
        "rank",
        "energy kept",
        "residual",
        "excess",
    ]);
    if report.modules.len() <= LIST_MODULES {
        for m in &report.modules {
            table.row(vec![
                m.module.clone(),
                format!("{}×{}", m.shape[0], m.shape[1]),
                percent(m.delta_ratio),
                m.rank.to_string(),
                percent(m.energy_kept),
                percent(m.residual),
                m.excess.map_or_else(String::new, excess),
            ]);
        }
    } else {
        for line in by_role(&report.modules) {
            table.row(line);
        }
    }
    say(&table.render())?;
    let t = &report.totals;
    say(&format!(
        "{} modules, rank ≤ {}, {} of ΔW's energy kept (residual {}), {} dropped, {} in {:.1} s",
        t.modules,
        t.max_rank,
        percent(t.energy_kept),
        percent(t.residual),
        percent(t.dropped_share),
        bytes(t.adapter_bytes),
        t.seconds,
    ))?;
    say(&format!("adapter: {out}"))
}

fn excess(stated: Stated) -> String {
    match stated {
        Stated::Certified(x) => format!("≤ {}", percent(x)),
        Stated::Estimated(x) => format!("≈ {}", percent(x)),
    }
}

/// One line a role: the energy-weighted means, and the worst excess.
fn by_role(modules: &[ModuleReport]) -> Vec<Vec<String>> {
    let mut roles: Vec<&str> = Vec::new();
    for m in modules {
        if !roles.contains(&m.role.as_str()) {
            roles.push(&m.role);
        }
    }
    roles
        .into_iter()
        .map(|role| {
            let of: Vec<&ModuleReport> = modules.iter().filter(|m| m.role == role).collect();
            let delta2: f64 = of.iter().map(|m| m.delta_norm.powi(2)).sum();
            let base2: f64 = of.iter().map(|m| m.base_norm.powi(2)).sum();
            let kept2: f64 = of
                .iter()
                .map(|m| m.energy_kept * m.delta_norm.powi(2))
                .sum();
            let kept = if delta2 > 0.0 { kept2 / delta2 } else { 0.0 };
            let ranks = || of.iter().map(|m| m.rank);
            let (low, high) = (ranks().min().unwrap_or(0), ranks().max().unwrap_or(0));
            let worst = of
                .iter()
                .filter_map(|m| m.excess)
                .max_by(|a, b| a.value().total_cmp(&b.value()));
            vec![
                format!("{role} ({} modules)", of.len()),
                format!("{}×{}", of[0].shape[0], of[0].shape[1]),
                percent((delta2 / base2.max(f64::MIN_POSITIVE)).sqrt()),
                if low == high {
                    low.to_string()
                } else {
                    format!("{low}–{high}")
                },
                percent(kept),
                percent((1.0 - kept).max(0.0).sqrt()),
                worst.map_or_else(String::new, excess),
            ]
        })
        .collect()
}
