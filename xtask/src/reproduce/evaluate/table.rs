//! What the evaluation found, at the end of the run.

use super::{controls, verdict};
use crate::{
    reproduce::steps::{Kind, Step},
    workspace,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fmt::Write as _, fs};

/// Where everything that is said of answers is kept.
const FILE: &str = "answers.txt";

/// Prints the tables of every comparison, what they say beside theory and the published table, and what caught each control; and
/// writes all of it into a file of the recipe's folder.
///
/// # Errors
/// A control was not caught.
pub(in super::super) fn show(steps: &[Step]) -> Result<()> {
    let mut text = String::new();
    for step in steps {
        let name = &step.name;
        match step.kind {
            Kind::Stats if name.ends_with(controls::STATS) => text += &controls_of(step)?,
            Kind::Judge => {
                let said = "labels by a scripted judge, which show the steps of the annotation and nothing of the model";
                let _ = writeln!(text, "\n{name}: {said}\n\n{}", printed(step)?.trim_end());
            }
            Kind::Stats => {
                let _ = writeln!(text, "\n{name}\n\n{}", printed(step)?.trim_end());
                let verdict = verdict::of(step)?;
                if !verdict.is_empty() {
                    let _ = writeln!(text, "\n{}", verdict.trim_end());
                }
            }
            Kind::MustFail => {
                let _ = writeln!(text, "\n{name}: refused: {}", first_line(step)?);
            }
            Kind::AskAndKill => {
                let _ = writeln!(text, "\n{name}: {}", printed(step)?.trim_end());
            }
            _ => {}
        }
    }
    let Some(folder) = steps.first().and_then(|step| step.out.parent()) else {
        return Ok(());
    };
    if text.is_empty() {
        return Ok(());
    }
    print!("{text}");
    let file = workspace::root().join(folder).join(FILE);
    fs::write(&file, text.trim_start()).with_context(|| format!("cannot write {}", file.display()))
}

fn controls_of(step: &Step) -> Result<String> {
    let file = workspace::root().join(&step.out).join("report.json");
    let report: Value = serde_json::from_slice(&fs::read(&file)?)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let mut told = "\n".to_owned();
    for comparison in report["comparisons"].as_array().into_iter().flatten() {
        let text = |field: &str| comparison[field].as_str().unwrap_or_default().to_owned();
        let (arm, reference, outcome) = (text("arm"), text("reference"), text("outcome"));
        let points = 100.0
            * comparison["difference_micro"]["value"]
                .as_f64()
                .unwrap_or(f64::NAN);
        let p = comparison["p_holm"].as_f64().unwrap_or(f64::NAN);
        ensure!(
            outcome == "lower",
            "{arm}: expected to be caught as lower than {reference}, found {outcome} ({points:+.1} points, p {p:.2e})"
        );
        let _ = writeln!(
            told,
            "{arm}: caught: {points:+.1} points against {reference}, p {p:.1e}"
        );
    }
    Ok(told)
}

fn printed(step: &Step) -> Result<String> {
    let out = workspace::root().join(&step.out);
    let file = out.with_file_name(format!("{}.stdout.txt", step.name));
    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}

fn first_line(step: &Step) -> Result<String> {
    let file = workspace::root().join(&step.out).join("refusal.txt");
    let said = fs::read_to_string(&file)?;
    let error = said.lines().find(|line| line.starts_with("error"));
    Ok(error.or(said.lines().last()).unwrap_or_default().to_owned())
}
