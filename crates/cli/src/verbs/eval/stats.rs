//! `xgraft eval stats`

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use xgraft_eval::stats::{
    Arm, Clusters, Collection, Options, Report, analyse, read_arms, read_counts, read_distances,
};
use xgraft_results::{Input, Row};

use super::stats_text;
use crate::args::{Always, Compared, NamedPath, Stats};
use crate::output::{Account, begin, commit, digest, say, say_json};

/// The report with its numbers as rows.
#[derive(Serialize)]
struct WithRows<'a> {
    #[serde(flatten)]
    report: &'a Report,
    rows: &'a [Row],
}

pub(crate) fn run(args: &Stats, always: &Always) -> anyhow::Result<ExitCode> {
    let report = compare(&args.compared)?;
    let rows = report.rows();
    let work = json!({"verb": "eval stats", "config": config(&args.compared, &report)});
    let out = begin(
        args.out.as_ref(),
        args.output.force,
        &work,
        paths(&args.compared),
    )?;
    if let Some(out) = out {
        commit(out, account("eval stats", &args.compared, &report, &rows)?)?;
    }
    if always.json {
        say_json(&WithRows {
            report: &report,
            rows: &rows,
        })?;
    } else {
        say(stats_text::render(&report).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads all arms, and compares them.
pub(super) fn compare(args: &Compared) -> anyhow::Result<Report> {
    let clusters = clusters(args)?;
    let mut all = Collection::default();
    for input in &args.inputs {
        let file = read(input, args, &clusters)?;
        all.arms.extend(file.arms);
        all.claims.extend(file.claims);
        all.reference = all.reference.or(file.reference);
    }
    if !args.tasks.is_empty() {
        // What a source claims, it claims of all tasks.
        all.claims.clear();
    }
    add_distances(&mut all.arms, &args.kl)?;
    only_tasks(&mut all.arms, &args.tasks)?;
    all.claims.extend(args.retention.iter().cloned());
    let options = Options {
        margin: args.margin,
        alpha: args.alpha,
        replicates: args.replicates,
        seed: args.random.seed,
        pairs: args.pairs.clone(),
    };
    let reference = args.reference.as_deref().or(all.reference.as_deref());
    Ok(analyse(&all.arms, reference, &all.claims, &options)?)
}

fn read(input: &NamedPath, args: &Compared, clusters: &Clusters) -> anyhow::Result<Collection> {
    let name = input.name.as_deref();
    if input.path.extension().is_some_and(|e| e == "json") {
        let mut file = read_counts(&input.path)?;
        if let (Some(name), [arm]) = (name, &mut file.arms[..]) {
            name.clone_into(&mut arm.name);
        }
        return Ok(file);
    }
    let arms = read_arms(&input.path, name, args.score.into(), clusters)?;
    Ok(Collection {
        arms,
        ..Collection::default()
    })
}

fn add_distances(arms: &mut [Arm], distances: &[NamedPath]) -> anyhow::Result<()> {
    for of in distances {
        let name = of.name.as_deref().unwrap_or_default();
        let arm = arms.iter_mut().find(|arm| arm.name == name);
        let arm = arm.with_context(|| format!("--kl {name}: no arm of this name was given"))?;
        arm.distances = read_distances(&of.path)?;
    }
    Ok(())
}

/// Leaves the other tasks out.
fn only_tasks(arms: &mut [Arm], tasks: &[String]) -> anyhow::Result<()> {
    for arm in arms.iter_mut().filter(|_| !tasks.is_empty()) {
        let known: Vec<&str> = arm.tasks.keys().map(String::as_str).collect();
        for task in tasks {
            ensure!(
                arm.tasks.contains_key(task),
                "arm {}: unknown task {task}, expected one of {}",
                arm.name,
                known.join(", ")
            );
        }
        arm.tasks.retain(|task, _| tasks.contains(task));
        arm.questions.retain(|(task, _), _| tasks.contains(task));
        let left: HashSet<&String> = arm.questions.keys().map(|(_, question)| question).collect();
        arm.distances.retain(|question, _| left.contains(question));
        if let Some(other) = &mut arm.other {
            other.retain(|task, _| tasks.contains(task));
        }
    }
    Ok(())
}

fn clusters(args: &Compared) -> anyhow::Result<Clusters> {
    let (Some(path), Some(field)) = (&args.questions, &args.cluster) else {
        return Ok(Clusters::new());
    };
    let mut clusters = Clusters::new();
    for question in xgraft_dataset::read_questions(path)? {
        let cluster = match question.meta.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        clusters.insert(question.id, cluster);
    }
    ensure!(
        !clusters.is_empty(),
        "{}: expected the field `{field}` in `meta` of some question, found none",
        path.display()
    );
    Ok(clusters)
}

/// What decides the outcome.
pub(super) fn config(args: &Compared, report: &Report) -> Value {
    json!({
        "inputs": named(&args.inputs),
        "reference": report.reference,
        "margin": args.margin,
        "alpha": args.alpha,
        "score": format!("{:?}", args.score).to_lowercase(),
        "tasks": args.tasks,
        "retention": args.retention,
        "kl": named(&args.kl),
        "pairs": args.pairs,
        "replicates": args.replicates,
    })
}

fn named(inputs: &[NamedPath]) -> Vec<Value> {
    let inputs = inputs.iter();
    inputs
        .map(|input| json!({"name": input.name, "path": input.path}))
        .collect()
}

pub(super) fn paths(args: &Compared) -> impl Iterator<Item = &PathBuf> {
    args.inputs.iter().chain(&args.kl).map(|input| &input.path)
}

/// Report, rows and manifest.
pub(super) fn account<'a>(
    verb: &'static str,
    args: &Compared,
    report: &'a Report,
    rows: &[Row],
) -> anyhow::Result<Account<'a, Report>> {
    Ok(Account {
        verb,
        config: config(args, report),
        seed: Some(args.random.seed),
        inputs: inputs(args)?,
        report,
        rows: rows.to_vec(),
        findings: &[],
    })
}

/// The files that were read, as far as each is one file; the log of a run is many, and grows.
fn inputs(args: &Compared) -> anyhow::Result<Vec<Input>> {
    let files = args.inputs.iter().filter(|input| input.path.is_file());
    files.map(|input| digest("results", &input.path)).collect()
}
