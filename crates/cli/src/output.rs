//! What every verb leaves in its output directory beside its product.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};
use xgraft_checkpoint::{OutputDir, write_atomic};
use xgraft_results::{Finding, Input, Manifest, Row, Severity, jsonl};

use crate::args::Always;

/// The side files of an output directory.
pub(crate) struct Account<'a, R> {
    pub(crate) verb: &'static str,
    pub(crate) config: Value,
    pub(crate) seed: Option<u64>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) report: &'a R,
    pub(crate) rows: Vec<Row>,
    pub(crate) findings: &'a [Finding],
}

impl<R: Serialize> Account<'_, R> {
    /// Writes `manifest.json`, `report.json`, `rows.jsonl` and `findings.jsonl` into `dir`.
    pub(crate) fn write(self, dir: &Path) -> anyhow::Result<()> {
        let manifest = Manifest {
            tool: xgraft_results::tool!("xgraft"),
            verb: self.verb.to_owned(),
            config: self.config,
            seed: self.seed,
            inputs: self.inputs,
        };
        write_atomic(&dir.join(Manifest::FILE), &manifest.to_bytes()?)?;
        let mut report =
            serde_json::to_vec_pretty(self.report).context("cannot encode the report")?;
        report.push(b'\n');
        write_atomic(&dir.join("report.json"), &report)?;
        jsonl::write_file(&dir.join("rows.jsonl"), &self.rows)?;
        jsonl::write_file(&dir.join("findings.jsonl"), self.findings)?;
        Ok(())
    }
}

/// Begins the output directory of a verb that may do without one, and refuses to write over what it reads.
pub(crate) fn begin<'a>(
    out: Option<&PathBuf>,
    force: bool,
    work: &Value,
    inputs: impl IntoIterator<Item = &'a PathBuf>,
) -> anyhow::Result<Option<OutputDir>> {
    let Some(out) = out else {
        return Ok(None);
    };
    let out = OutputDir::create(out, force, work)?;
    for input in inputs {
        out.refuse_input(input)?;
    }
    Ok(Some(out))
}

/// A whole file as an input of the manifest.
pub(crate) fn digest(role: &str, path: &Path) -> anyhow::Result<Input> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(path)?)?;
    Ok(Input {
        role: role.to_owned(),
        tensor: None,
        file: path.display().to_string(),
        blake3: hasher.finalize().to_hex().to_string(),
        bytes: hasher.count(),
    })
}

/// The exit code of a verb that judges: a failure where what it looked at does not pass.
pub(crate) fn judged(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Writes the account and makes the output directory visible under its name.
pub(crate) fn commit<R: Serialize>(out: OutputDir, account: Account<'_, R>) -> anyhow::Result<()> {
    account.write(out.path())?;
    out.commit()?;
    Ok(())
}

/// Prints a line for the person at the terminal, who may have left.
pub(crate) fn note(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says where the page of a report is.
pub(crate) fn say_page(page: &Path, always: &Always) -> anyhow::Result<()> {
    if always.json {
        say_json(&json!({ "report": page }))
    } else {
        say(&format!("report: {}", page.display()))
    }
}

/// Prints findings to stderr, worst last, so that it is what stays in view.
pub(crate) fn print_findings(findings: &[Finding]) {
    #![expect(
        clippy::print_stderr,
        reason = "findings are for the person at the terminal"
    )]
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|f| f.severity);
    for finding in sorted {
        eprintln!("{finding}");
        if let (Some(hint), true) = (&finding.hint, finding.severity > Severity::Info) {
            eprintln!("hint: {hint}");
        }
    }
}

/// Prints findings to stderr by kind, at most `most` of a kind and each advice once; worst last.
pub(crate) fn print_grouped(findings: &[Finding], most: usize) {
    #![expect(
        clippy::print_stderr,
        reason = "findings are for the person at the terminal"
    )]
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by(|a, b| (a.severity, &a.code).cmp(&(b.severity, &b.code)));
    for kind in sorted.chunk_by(|a, b| a.code == b.code && a.severity == b.severity) {
        for finding in kind.iter().take(most) {
            eprintln!("{finding}");
        }
        if kind.len() > most {
            let (rest, code) = (kind.len() - most, &kind[0].code);
            eprintln!("… and {rest} more of `{code}`; --json lists them");
        }
        let mut hints: Vec<&str> = Vec::new();
        for hint in kind.iter().filter_map(|f| f.hint.as_deref()) {
            if !hints.contains(&hint) {
                hints.push(hint);
                eprintln!("hint: {hint}");
            }
        }
    }
}

/// Prints a line of data.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(())
}

/// Prints a value as JSON.
pub(crate) fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(value).context("cannot encode the report")?)
}
