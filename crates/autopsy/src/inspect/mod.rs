//! What a directory holds, by its headers, and what in it contradicts what.

mod checks;
mod declared;
mod layout;

use std::path::Path;

use serde::Serialize;
use xgraft_checkpoint::{Checkpoint, Error as CheckpointError, Inventory, Role};
use xgraft_results::{Finding, Severity};

pub use layout::Layout;

use crate::error::Result;
use crate::thresholds::Group;
pub use declared::Declared;
use layout::{Module, modules};

/// One tensor of a directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// The type of its elements, as the header calls it.
    pub dtype: &'static str,
    /// Its shape; that of the codes for quantized weights.
    pub shape: Vec<usize>,
    /// How many bytes it has.
    pub bytes: u64,
    /// The file that holds it.
    pub file: String,
    /// The module that owns it.
    pub module: String,
    /// What it does in the model: `linear`, or `q`, `gate` where the name is known; scales have their weight's role.
    pub role: String,
    /// How the weights of its module are stored.
    pub layout: Layout,
    /// Which elements share a scale, where there are scales: `128x128`, `row`, `tensor`, `group 128`.
    pub scales: Option<String>,
}

/// A layout and how many modules have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayoutCount {
    /// The layout.
    pub layout: Layout,
    /// Modules whose tensors show it.
    pub modules: usize,
    /// Which elements share a scale, in the order in which they occur.
    pub scales: Vec<String>,
}

/// The whole of what `inspect` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// `xgraft.inspect-report/1`.
    pub schema: String,
    /// The directory.
    pub dir: String,
    /// `model_type` of config.json.
    pub model_type: Option<String>,
    /// The layouts that the tensors show, most frequent first.
    pub found: Vec<LayoutCount>,
    /// The layout that config.json says; `None` when it cannot be read.
    pub declared: Option<Declared>,
    /// The safetensors files that hold the model.
    pub files: Vec<String>,
    /// Safetensors files that nothing refers to.
    pub unused: Vec<String>,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Every tensor, in model order.
    pub tensors: Vec<TensorEntry>,
    /// What contradicts what, and what else is wrong.
    pub findings: Vec<Finding>,
}

impl Inspection {
    /// Whether nothing of severity error was found.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|f| f.severity < Severity::Error)
    }
}

/// Looks at every header of a directory, whatever is wrong with it.
///
/// # Errors
/// When it is no directory that can be listed. Everything else that is wrong is a finding.
pub fn inspect(dir: impl AsRef<Path>) -> Result<Inspection> {
    let inventory = Inventory::read(dir.as_ref())?;
    let opened = Checkpoint::open(dir.as_ref());
    let modules = modules(&inventory, opened.as_ref().ok());
    let declared = inventory.config.as_ref().map(Declared::of);
    let mut findings: Vec<Finding> = inventory.problems.iter().map(of_error).collect();
    findings.extend(checks::layouts(&modules, declared.as_ref()));
    findings.extend(checks::model(&inventory, &modules));
    findings.extend(checks::files(&inventory));
    if let Err(error) = opened {
        findings.extend(of_refusal(&error, &findings));
    }
    let name = |path: &Path| path.display().to_string();
    Ok(Inspection {
        schema: "xgraft.inspect-report/1".into(),
        dir: name(&inventory.dir),
        model_type: inventory.config.as_ref().and_then(|c| c.model_type.clone()),
        found: counts(&modules),
        declared,
        files: inventory.shards.iter().map(|p| name(p)).collect(),
        unused: inventory.unused.iter().map(|p| name(p)).collect(),
        bytes: inventory.tensors.iter().map(|t| t.bytes).sum(),
        tensors: entries(&inventory, &modules),
        findings,
    })
}

/// A thing that is wrong with the files, as a finding.
fn of_error(error: &CheckpointError) -> Finding {
    let (code, subject) = match error {
        CheckpointError::Missing { path, .. } => ("missing-file", path.display().to_string()),
        CheckpointError::Io { path, .. } => ("unreadable-file", path.display().to_string()),
        CheckpointError::Json { file, .. } => ("bad-json", file.display().to_string()),
        CheckpointError::Header { file, .. } => ("bad-header", file.display().to_string()),
        CheckpointError::Tensor { tensor, .. } => ("bad-tensor", tensor.clone()),
        CheckpointError::Index { entry, .. } => ("bad-index", entry.clone()),
        CheckpointError::Config { field, .. } => ("bad-config", field.clone()),
        CheckpointError::Quantized { tensor, .. } => ("bad-quantization", tensor.clone()),
        CheckpointError::UnsupportedLayout { file, .. } => {
            ("unsupported-layout", file.display().to_string())
        }
        _ => ("bad-checkpoint", "checkpoint".to_owned()),
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let finding = Finding::error(code, subject, text);
    if let CheckpointError::Quantized { .. } = error {
        return finding.hint(
            "config.json (its bits, its group size, its block) or the shard is of another checkpoint: take both from one source",
        );
    }
    match error.hint() {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}

/// Why the other verbs refuse the directory, where the findings so far do not explain it.
fn of_refusal(error: &CheckpointError, known: &[Finding]) -> Option<Finding> {
    let mut finding = of_error(error);
    if let CheckpointError::UnsupportedLayout { .. } = error {
        finding.severity = Severity::Warning;
        return Some(finding);
    }
    // The same file or tensor, or the module of the tensor.
    let same =
        |f: &Finding| finding.subject.starts_with(&f.subject) || f.message == finding.message;
    let explained = known
        .iter()
        .any(|f| f.severity == Severity::Error && same(f));
    (!explained).then_some(finding)
}

fn counts(modules: &[Module<'_>]) -> Vec<LayoutCount> {
    let mut counts: Vec<LayoutCount> = Vec::new();
    for module in modules {
        let at = counts.iter().position(|c| c.layout == module.layout);
        let at = at.unwrap_or_else(|| {
            counts.push(LayoutCount {
                layout: module.layout,
                modules: 0,
                scales: Vec::new(),
            });
            counts.len() - 1
        });
        let count = &mut counts[at];
        count.modules += 1;
        let scales = module.scales.as_ref().map(ToString::to_string);
        if let Some(scales) = scales.filter(|s| !count.scales.contains(s)) {
            count.scales.push(scales);
        }
    }
    counts.sort_by_key(|c| std::cmp::Reverse(c.modules));
    counts
}

fn entries(inventory: &Inventory, modules: &[Module<'_>]) -> Vec<TensorEntry> {
    let mut entries = Vec::with_capacity(inventory.tensors.len());
    for module in modules {
        for (leaf, tensor) in &module.tensors {
            entries.push(TensorEntry {
                name: tensor.name.clone(),
                dtype: tensor.dtype.name(),
                shape: tensor.shape.clone(),
                bytes: tensor.bytes,
                file: inventory.shards[tensor.shard].display().to_string(),
                module: module.name.to_owned(),
                role: role_name(module.role_of(leaf)),
                layout: module.layout,
                scales: module.scales.as_ref().map(ToString::to_string),
            });
        }
    }
    entries
}

/// `q`, `gate`; `linear`, `norm` where the name is not of a known projection.
fn role_name(role: Role) -> String {
    match role {
        Role::Q | Role::K | Role::V | Role::O | Role::Gate | Role::Up | Role::Down => {
            format!("{role:?}").to_lowercase()
        }
        role => Group::of(role).name().to_owned(),
    }
}
