//! The pipeline's last word: the table of modules, read from the steps' rows.

use super::{
    steps::{Kind, Step},
    units::percent,
};
use crate::workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// More modules than this are shown by role.
const LISTED: usize = 64;

const COLUMNS: [(&str, &str); 6] = [
    ("delta_ratio", "dW/W"),
    ("energy_kept", "energy kept"),
    ("residual", "residual"),
    ("excess", "excess"),
    ("base_error", "base alone"),
    ("relative_error", "with adapter"),
];

/// One line: a module, or the mean of a role's modules.
#[derive(Debug, Default)]
struct Line {
    name: String,
    /// Metric to value.
    values: BTreeMap<String, f64>,
    /// `<` where the excess is certified, `~` where it is estimated.
    sign: &'static str,
}

/// Prints a table for every rank, and what the steps found.
pub(super) fn show(steps: &[Step]) -> Result<()> {
    for step in steps {
        if let Kind::Extract { rank } = step.kind {
            let verify = steps
                .iter()
                .find(|s| matches!(s.kind, Kind::Verify { rank: r, .. } if r == rank));
            let mut lines = Vec::new();
            for dir in std::iter::once(&step.out).chain(verify.map(|step| &step.out)) {
                add_rows(&mut lines, &workspace::root().join(dir))?;
            }
            println!("\nrank {rank}: {} modules", lines.len());
            print!("{}", table(&by_role_if_many(lines)));
        }
    }
    show_findings(steps)
}

fn records(file: &Path) -> Result<Vec<Value>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let parsed = lines.map(|line| {
        serde_json::from_str(line).with_context(|| format!("{}: {line}", file.display()))
    });
    parsed.collect()
}

fn add_rows(lines: &mut Vec<Line>, dir: &Path) -> Result<()> {
    for row in records(&dir.join("rows.jsonl"))? {
        let (Some(module), Some(metric), Some(value)) = (
            row["module"].as_str(),
            row["metric"].as_str(),
            row["value"].as_f64(),
        ) else {
            continue;
        };
        let line = line_of(lines, module);
        let (metric, sign) = match metric {
            "excess_certified" => ("excess", "<"),
            "excess_estimated" => ("excess", "~"),
            other => (other, line.sign),
        };
        line.sign = sign;
        line.values.insert(metric.to_owned(), value);
    }
    Ok(())
}

fn line_of<'a>(lines: &'a mut Vec<Line>, module: &str) -> &'a mut Line {
    let at = lines
        .iter()
        .position(|line| line.name == module)
        .unwrap_or_else(|| {
            let name = module.to_owned();
            lines.push(Line {
                name,
                ..Line::default()
            });
            lines.len() - 1
        });
    &mut lines[at]
}

/// The lines as they are, or the means of every role: `mlp.up_proj (64 layers)`.
fn by_role_if_many(lines: Vec<Line>) -> Vec<Line> {
    if lines.len() <= LISTED {
        return lines;
    }
    let mut roles: Vec<(String, Vec<Line>)> = Vec::new();
    for line in lines {
        let role = role_of(&line.name);
        match roles.iter_mut().find(|(known, _)| *known == role) {
            Some((_, members)) => members.push(line),
            None => roles.push((role, vec![line])),
        }
    }
    roles
        .into_iter()
        .map(|(role, members)| mean(&role, &members))
        .collect()
}

/// What follows the layer's number.
fn role_of(module: &str) -> String {
    let parts: Vec<&str> = module.split('.').collect();
    let number = parts.iter().rposition(|part| part.parse::<u32>().is_ok());
    parts[number.map_or(0, |at| at + 1)..].join(".")
}

fn mean(role: &str, members: &[Line]) -> Line {
    let mut values: BTreeMap<String, f64> = BTreeMap::new();
    for (metric, value) in members.iter().flat_map(|line| &line.values) {
        *values.entry(metric.clone()).or_default() += value;
    }
    for (metric, sum) in &mut values {
        let count = members
            .iter()
            .filter(|line| line.values.contains_key(metric))
            .count();
        *sum /= count as f64;
    }
    Line {
        name: format!("{role} (mean of {})", members.len()),
        values,
        sign: members.first().map_or("", |line| line.sign),
    }
}

fn table(lines: &[Line]) -> String {
    let width = lines
        .iter()
        .map(|line| line.name.len())
        .max()
        .unwrap_or(0)
        .max(6);
    let head = COLUMNS.map(|(_, head)| format!("{head:>14}")).concat();
    let mut out = format!("{:<width$}{:>6}{head}\n", "module", "rank");
    for line in lines {
        let rank = line
            .values
            .get("rank")
            .map_or_else(|| "-".to_owned(), |rank| format!("{rank:.0}"));
        out += &format!("{:<width$}{rank:>6}", line.name);
        for (metric, _) in COLUMNS {
            let cell = line
                .values
                .get(metric)
                .map_or_else(|| "-".to_owned(), |value| percent(*value));
            let sign = if metric == "excess" && cell.starts_with(|c: char| c.is_ascii_digit()) {
                line.sign
            } else {
                ""
            };
            out += &format!("{:>14}", format!("{sign}{cell}"));
        }
        out.push('\n');
    }
    out
}

fn show_findings(steps: &[Step]) -> Result<()> {
    let mut notes = 0;
    // The comparison drops and leaves out the same tensors in every arm; its own chapter says what it measures.
    let own = |step: &&Step| !matches!(step.kind, Kind::Methods(_));
    for step in steps.iter().filter(own) {
        let file = workspace::root().join(&step.out).join("findings.jsonl");
        let findings = if file.is_file() {
            records(&file)?
        } else {
            Vec::new()
        };
        for finding in &findings {
            let text = |field: &str| finding[field].as_str().unwrap_or_default();
            match text("severity") {
                "info" => notes += 1,
                severity => println!(
                    "{severity} [{}] {}: {}",
                    step.name,
                    text("subject"),
                    text("message")
                ),
            }
        }
    }
    if notes > 0 {
        println!("{notes} notes of the steps are in the report");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, energy: f64) -> Line {
        Line {
            name: name.to_owned(),
            values: [("energy_kept".to_owned(), energy)].into(),
            sign: "",
        }
    }

    #[test]
    fn few_modules_are_listed_and_many_are_averaged_by_role() {
        let few = vec![line("model.layers.0.mlp.up_proj", 0.9)];
        assert_eq!(by_role_if_many(few)[0].name, "model.layers.0.mlp.up_proj");
        let many: Vec<Line> = (0..100)
            .map(|layer| {
                line(
                    &format!("model.layers.{layer}.mlp.up_proj"),
                    f64::from(layer) / 100.0,
                )
            })
            .collect();
        let roles = by_role_if_many(many);
        assert_eq!(roles[0].name, "mlp.up_proj (mean of 100)");
        assert!((roles[0].values["energy_kept"] - 0.495).abs() < 1e-12);
    }

    #[test]
    fn missing_values_are_dashes() {
        let text = table(&[line("a", 0.987)]);
        assert!(text.contains("98.7 %") && text.contains(" -"));
    }
}
