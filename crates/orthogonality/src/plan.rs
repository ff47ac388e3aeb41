//! Which layers are compared, and whether everything fits together.

use std::path::Path;

use xgraft_checkpoint::{Adapter, Checkpoint, LoraKind, LoraModule, Role};
use xgraft_results::Finding;

use crate::error::{Error, Result};
use crate::noise::Noise;

/// The work in the order of the adapter's modules.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) layers: Vec<Layer<'a>>,
    pub(crate) findings: Vec<Finding>,
}

/// One linear layer.
#[derive(Debug)]
pub(crate) struct Layer<'a> {
    pub(crate) module: &'a LoraModule,
    /// The same module of the second adapter.
    pub(crate) second: Option<&'a LoraModule>,
    /// The adapter's module of the same projection and shape in the next layer that has one.
    pub(crate) neighbour: Option<&'a LoraModule>,
}

impl Layer<'_> {
    /// Elements of the weight: the cost of the layer.
    pub(crate) fn elements(&self) -> u64 {
        let (rows, cols) = self.module.weight_shape();
        rows as u64 * cols as u64
    }
}

/// The last component of a module's path: `q_proj`.
pub(crate) fn projection(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// The first number in a module's path.
pub(crate) fn layer(module: &str) -> Option<usize> {
    module.split('.').find_map(|part| part.parse().ok())
}

/// Matches the adapters with each other and with every checkpoint.
pub(crate) fn plan<'a>(
    noises: &'a [Noise],
    adapter: &'a Adapter,
    second: Option<&'a Adapter>,
) -> Result<Plan<'a>> {
    if noises.is_empty() && second.is_none() {
        return Err(Error::NothingToCompare);
    }
    same_models(noises)?;
    let mut findings = Vec::new();
    let modules = linears(noises, adapter, &mut findings);
    if modules.is_empty() {
        return Err(Error::NoLinear {
            adapter: adapter.dir().to_owned(),
        });
    }
    for noise in noises {
        for checkpoint in [&noise.original, &noise.quantized] {
            covers(checkpoint, adapter, &modules)?;
        }
    }
    let layers: Vec<Layer<'_>> = modules
        .iter()
        .enumerate()
        .map(|(at, module)| Layer {
            module,
            second: second.and_then(|s| s.module(&module.module)),
            neighbour: neighbour(&modules, at),
        })
        .collect();
    if let Some(second) = second {
        findings.extend(both(adapter, second, &layers)?);
    }
    Ok(Plan { layers, findings })
}

/// Labels differ, and all checkpoints are of one architecture.
fn same_models(noises: &[Noise]) -> Result<()> {
    for (at, noise) in noises.iter().enumerate() {
        if noises[..at].iter().any(|other| other.label == noise.label) {
            return Err(Error::SameLabel {
                label: noise.label.clone(),
            });
        }
        let reference = noises[0].original.config();
        for config in [noise.original.config(), noise.quantized.config()] {
            if let Some((field, expected, found)) = reference.first_difference(config) {
                return Err(Error::ConfigMismatch {
                    field,
                    expected,
                    reference: reference.file().to_owned(),
                    found,
                    file: config.file().to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// The adapter's linear layers; a finding names the rest.
fn linears<'a>(
    noises: &[Noise],
    adapter: &'a Adapter,
    findings: &mut Vec<Finding>,
) -> Vec<&'a LoraModule> {
    let model_type = noises
        .first()
        .and_then(|n| n.original.config().model_type.as_deref());
    let (linear, rest): (Vec<_>, Vec<_>) = adapter.modules().iter().partition(|module| {
        let name = format!("{}.weight", module.module);
        module.kind == LoraKind::Linear && Role::of(&name, 2, model_type).is_linear()
    });
    findings.extend(rest.into_iter().map(|module| {
        Finding::info(
            "not-linear",
            &module.module,
            "an embedding or head is no linear layer of a block; it is left out",
        )
    }));
    linear
}

/// Whether a checkpoint has every module in the adapter's shape.
fn covers(checkpoint: &Checkpoint, adapter: &Adapter, modules: &[&LoraModule]) -> Result<()> {
    let mut missing = modules
        .iter()
        .filter(|m| checkpoint.weight(&m.module).is_none());
    if let Some(first) = missing.next() {
        return Err(Error::UnknownModule {
            module: first.module.clone(),
            count: 1 + missing.count(),
            adapter: adapter.dir().to_owned(),
            dir: checkpoint.dir().to_owned(),
        });
    }
    for module in modules {
        if let Some(weight) = checkpoint.weight(&module.module) {
            same_shape(adapter, module, &weight.shape, checkpoint.dir())?;
        }
    }
    Ok(())
}

fn same_shape(adapter: &Adapter, module: &LoraModule, found: &[usize], dir: &Path) -> Result<()> {
    let (rows, cols) = module.weight_shape();
    if found == [rows, cols] {
        return Ok(());
    }
    Err(Error::Shape {
        module: module.module.clone(),
        expected: [rows, cols],
        adapter: adapter.dir().to_owned(),
        found: found.to_vec(),
        dir: dir.to_owned(),
    })
}

/// The next module of the same projection and shape, going round; not the module itself.
fn neighbour<'a>(modules: &[&'a LoraModule], at: usize) -> Option<&'a LoraModule> {
    let this = modules[at];
    let mut others = modules[at + 1..].iter().chain(&modules[..at]);
    others
        .find(|other| {
            projection(&other.module) == projection(&this.module)
                && other.weight_shape() == this.weight_shape()
        })
        .copied()
}

/// Two adapters must have a module in common, in one shape; a finding counts what only one has.
fn both(first: &Adapter, second: &Adapter, layers: &[Layer<'_>]) -> Result<Option<Finding>> {
    let mut common = 0;
    for layer in layers {
        if let Some(module) = layer.second {
            let (rows, cols) = module.weight_shape();
            same_shape(first, layer.module, &[rows, cols], second.dir())?;
            common += 1;
        }
    }
    if common == 0 {
        return Err(Error::NothingInCommon {
            first: first.dir().to_owned(),
            module: layers[0].module.module.clone(),
            second: second.dir().to_owned(),
        });
    }
    let lone = layers.len() - common;
    Ok((lone > 0).then(|| {
        Finding::info(
            "only-in-first",
            second.dir().display().to_string(),
            format!(
                "{lone} of the {} modules of {} are not in this adapter; the overlap leaves them out",
                layers.len(),
                first.dir().display()
            ),
        )
        .value(lone as f64)
    }))
}
