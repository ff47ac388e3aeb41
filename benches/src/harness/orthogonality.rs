//! `xgraft orthogonality` of one matrix against the extraction of its adapter, both as whole processes.

use super::{
    Goal, Line, Programs, Table,
    table::{seconds, times},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::process::Command;

const GROUP: &str = "orthogonality";
const MODULE: &str = "mlp.down_proj";
const RANK: u64 = 256;

/// Measures, and adds a line to the table.
///
/// # Errors
/// A program fails, or its result is not what it must be.
pub fn run(programs: &mut Programs, table: &mut Table) -> Result<()> {
    let like = if programs.quick { "tiny" } else { "qwen3-32b" };
    let folder = |name: &str| programs.scratch.join(format!("{like}-{MODULE}{name}"));
    let (pair, quantized, adapter) = (folder(""), folder("-fp8"), folder("-adapter"));
    let mut synth = Command::new(programs.binary("synth"));
    synth.args(["--like", like, "--only", MODULE, "--out"]);
    programs.make(&pair, synth.arg(&pair))?;
    let mut quantize = Command::new(programs.binary("xgraft"));
    let base = pair.join("base");
    quantize.arg("quantize").arg(&base);
    quantize.args(["--scheme", "fp8-block", "--out"]);
    programs.make(&quantized, quantize.arg(&quantized))?;

    let path = |path: &std::path::Path| path.display().to_string();
    let rank = RANK.to_string();
    let (base, tuned, out) = (path(&base), path(&pair.join("tuned")), path(&adapter));
    let extract = [
        "extract",
        "--base",
        &base,
        "--tuned",
        &tuned,
        "--rank",
        &rank,
        "--threads",
        "1",
        "--force",
        "--json",
        "--out",
        &out,
    ];
    let noise = format!("{base}={}", path(&quantized));
    let compare = [
        "orthogonality",
        "--noise",
        &noise,
        "--adapter",
        &out,
        "--threads",
        "1",
        "--json",
    ];
    for round in 0..programs.rounds() {
        programs.xgraft(GROUP, round, "extract", &extract, |stdout| {
            extracted(stdout)
        })?;
        programs.xgraft(GROUP, round, "orthogonality", &compare, compared)?;
    }
    table.0.push(line(programs));
    Ok(())
}

/// The adapter keeps what its report says, of which the excess is that of `xgraft extract`'s own suite.
fn extracted(stdout: &str) -> Result<Value> {
    let report: Value = serde_json::from_str(stdout)?;
    let excess = &report["totals"]["worst_excess"];
    let stated = excess.as_object().and_then(|kinds| kinds.values().next());
    let worst = stated.and_then(Value::as_f64).context("no excess")?;
    ensure!(
        worst <= 5e-4,
        "an excess of {worst}: not the extraction that is compared with"
    );
    Ok(json!({"totals": report["totals"]}))
}

/// Updates of the whole rank were compared, and the noise is not related to a random one.
fn compared(stdout: &str) -> Result<Value> {
    let report: Value = serde_json::from_str(stdout)?;
    let modules = report["modules"].as_array().context("no modules")?;
    ensure!(!modules.is_empty(), "nothing was compared");
    for module in modules {
        let rank = &module["update"]["rank"];
        ensure!(*rank == RANK, "an update of rank {rank}, expected {RANK}");
        let z = module["noises"][0]["random"]["z"].as_f64();
        let z = z.context("no control")?;
        ensure!(
            z.abs() < 5.0,
            "a cosine of {z} times chance with a random update"
        );
    }
    let first = &modules[0];
    Ok(json!({"shape": first["shape"], "cosine": first["noises"][0]["cosine"]}))
}

fn line(programs: &Programs) -> Line {
    let of = |case| programs.samples.smallest(GROUP, case, "cpu_s");
    let (ours, extraction) = (of("orthogonality"), of("extract"));
    Line {
        metric: "orthogonality_vs_extract",
        what: format!(
            "orthogonality of one 5120x25600 matrix, one thread: over its extraction at rank {RANK}"
        ),
        from: seconds(ours, extraction),
        value: ours
            .zip(extraction)
            .map(|(ours, extraction)| ours / extraction),
        show: times,
        must: Some(Goal::AtMost(1.5)),
        aim: None,
    }
}
