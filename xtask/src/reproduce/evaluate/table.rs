//! What the evaluation found, at the end of the run.

use super::{controls, verdict};
use crate::{
    reproduce::steps::{Kind, Step},
    workspace,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;

/// Prints the tables of every comparison, and what caught each control.
///
/// # Errors
/// A control was not caught.
pub(in super::super) fn show(steps: &[Step]) -> Result<()> {
    for step in steps {
        match step.kind {
            Kind::Stats if step.name.ends_with(controls::STATS) => show_controls(step)?,
            Kind::Judge => println!(
                "\n{}: labels by a scripted judge, which show the steps of the annotation and nothing of the model\n\n{}",
                step.name,
                printed(step)?.trim_end()
            ),
            Kind::Stats => {
                println!("\n{}\n\n{}", step.name, printed(step)?.trim_end());
                let verdict = verdict::of(step)?;
                if !verdict.is_empty() {
                    println!("\n{}", verdict.trim_end());
                }
            }
            Kind::MustFail => println!("\n{}: refused: {}", step.name, first_line(step)?),
            _ => {}
        }
    }
    Ok(())
}

fn show_controls(step: &Step) -> Result<()> {
    let file = workspace::root().join(&step.out).join("report.json");
    let report: Value = serde_json::from_slice(&fs::read(&file)?)
        .with_context(|| format!("cannot read {}", file.display()))?;
    println!();
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
        println!("{arm}: caught: {points:+.1} points against {reference}, p {p:.1e}");
    }
    Ok(())
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
