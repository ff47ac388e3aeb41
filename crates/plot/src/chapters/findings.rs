//! What the steps noticed.

use crate::{Result, Section, Table, inputs::Inputs};
use xgraft_results::Finding;

/// More findings of one kind than this are counted instead of listed.
const LISTED: usize = 5;

pub(super) fn section(inputs: &Inputs) -> Result<Option<Section>> {
    let mut kinds: Vec<Kind<'_>> = Vec::new();
    for input in &inputs.0 {
        for finding in &input.findings {
            let known = kinds
                .iter_mut()
                .find(|kind| kind.holds(&input.label, finding));
            match known {
                Some(kind) => kind.findings.push(finding),
                None => kinds.push(Kind {
                    step: &input.label,
                    findings: vec![finding],
                }),
            }
        }
    }
    if kinds.is_empty() {
        return Ok(None);
    }
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.first().severity));
    let mut table = Table::new(
        "Findings, the gravest first.",
        [
            ("severity", false),
            ("step", false),
            ("code", false),
            ("subject", false),
            ("message", false),
        ],
    );
    for kind in &kinds {
        kind.add_to(&mut table);
    }
    Ok(Some(Section::new("Findings").table(table)))
}

/// Findings of one step with the same severity and code.
struct Kind<'a> {
    step: &'a str,
    findings: Vec<&'a Finding>,
}

impl Kind<'_> {
    fn first(&self) -> &Finding {
        self.findings[0]
    }

    fn holds(&self, step: &str, finding: &Finding) -> bool {
        let first = self.first();
        self.step == step && first.severity == finding.severity && first.code == finding.code
    }

    fn add_to(&self, table: &mut Table) {
        let listed = if self.findings.len() > LISTED {
            LISTED - 1
        } else {
            LISTED
        };
        let mut push = |subject: &str, message: String| {
            let first = self.first();
            let (severity, code) = (first.severity.to_string(), first.code.clone());
            table.push([
                severity,
                self.step.to_owned(),
                code,
                subject.to_owned(),
                message,
            ]);
        };
        for finding in self.findings.iter().take(listed) {
            let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})"));
            let message = format!("{}{}", finding.message, hint.unwrap_or_default());
            push(&finding.subject, message);
        }
        let rest = self.findings.len().saturating_sub(listed);
        if rest > 0 {
            push(
                &format!("{rest} more"),
                "of the same kind, in findings.jsonl of the step".to_owned(),
            );
        }
    }
}
