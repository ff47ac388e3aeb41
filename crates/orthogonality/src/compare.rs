//! The comparison from end to end, one layer in memory at a time.

use std::ops::ControlFlow;

use xgraft_checkpoint::{Adapter, Checkpoint, Digest, LoraModule};
use xgraft_cpu_gemm::{Source, inner_products};
use xgraft_results::Input;

use crate::error::{Error, Result};
use crate::findings::findings;
use crate::measures::Cosine;
use crate::noise::{Noise, Subject, Weights, measure};
use crate::overlap::overlap;
use crate::plan::{Layer, layer, plan, projection};
use crate::report::{ModuleReport, NoisePair, Report, UpdateReport};
use crate::sides;
use crate::summary::{by_layer, by_projection, whole};
use crate::update::{Pair, Update};
use crate::words::words;
use xgraft_low_rank::mix;

/// What happens while a comparison runs; the caller may stop it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The plan is made.
    Planned {
        /// Elements of all layers: the unit of progress.
        elements: u64,
    },
    /// A layer is begun.
    Begin {
        /// Its module.
        module: &'a str,
    },
    /// A pass over the weights of the layer begins.
    Pass,
    /// A layer is done.
    Done {
        /// Its elements.
        elements: u64,
    },
}

/// Compares every noise with the adapter, with every other noise and with the controls; and the adapter with a second one.
///
/// Noises may be of different fine-tunes of one architecture. The adapter must be plain LoRA: L = s·B·A.
/// Memory: the original and the quantized weight of one layer for each noise, and panels of the adapter's rank.
/// The report does not depend on the number of threads.
///
/// # Errors
/// Nothing to compare, files that cannot be read, checkpoints or adapters of different models, one directory twice, and pairs the
/// wrong way round.
/// A quantized checkpoint that is not the original's copy is no error: [`Report::passed`] is false and a finding says so.
pub fn compare(
    noises: &[Noise],
    adapter: &Adapter,
    second: Option<&Adapter>,
    seed: u64,
    on_event: &dyn Fn(Event<'_>) -> ControlFlow<()>,
) -> Result<(Report, Vec<Input>)> {
    let tell = |event: Event<'_>| match on_event(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    };
    let mut plan = plan(noises, adapter, second)?;
    tell(Event::Planned {
        elements: plan.layers.iter().map(Layer::elements).sum(),
    })?;
    for noise in noises {
        plan.findings.extend(sides::check(noise, &plan.layers)?);
    }
    let mut inputs = Vec::new();
    let mut modules = Vec::new();
    let mut empty = Vec::new();
    for (at, layer) in plan.layers.iter().enumerate() {
        let module = layer.module.module.as_str();
        tell(Event::Begin { module })?;
        inputs.extend(adapter_inputs("adapter", adapter, layer.module)?);
        if let (Some(second), Some(module)) = (second, layer.second) {
            inputs.extend(adapter_inputs("adapter-2", second, module)?);
        }
        let update = Update::of(&Pair::load(adapter, layer.module)?, module)?;
        if update.rank() == 0 {
            empty.push(module.to_owned());
        } else {
            let work = Work {
                noises,
                adapter,
                second,
                layer,
                seeds: [0, 1].map(|i| mix(seed, 2 * at as u64 + i)),
                go: &|| tell(Event::Pass),
            };
            let measured = work.module(&update, &mut inputs)?;
            if layer.second.is_some() && measured.overlap.is_none() {
                empty.push(format!("{module} of the second adapter"));
            }
            modules.push(measured);
        }
        tell(Event::Done {
            elements: layer.elements(),
        })?;
    }
    let mut report = Report {
        schema: "xgraft.orthogonality-report/1".into(),
        convention: "N = dequantized - original; L = s*B*A of the adapter; W = original".into(),
        whole: whole(&modules),
        by_projection: by_projection(&modules),
        by_layer: by_layer(&modules),
        modules,
        words: Vec::new(),
        findings: plan.findings,
    };
    report.findings.extend(findings(noises, &report, &empty));
    report.words = words(&report);
    Ok((report, inputs))
}

/// One layer's work.
struct Work<'a> {
    noises: &'a [Noise],
    adapter: &'a Adapter,
    second: Option<&'a Adapter>,
    layer: &'a Layer<'a>,
    /// Of the random and of the shuffled control.
    seeds: [u64; 2],
    go: &'a dyn Fn() -> Result<()>,
}

impl Work<'_> {
    fn module(&self, update: &Update, inputs: &mut Vec<Input>) -> Result<ModuleReport> {
        let module = self.layer.module.module.as_str();
        let mut report = ModuleReport {
            module: module.to_owned(),
            projection: projection(module).to_owned(),
            layer: layer(module),
            shape: [update.rows, update.cols],
            noises: Vec::new(),
            not_quantized: Vec::new(),
            pairs: Vec::new(),
            overlap: None,
            update: UpdateReport {
                rank: update.rank(),
                norm: update.norm2().sqrt(),
                stable_rank: update.norm2() / update.singular_values[0].powi(2),
                singular_values: update.singular_values.clone(),
            },
        };
        if let (Some(adapter), Some(lora)) = (self.second, self.layer.second) {
            (self.go)()?;
            let second = Update::of(&Pair::load(adapter, lora)?, module)?;
            if second.rank() > 0 {
                report.overlap = Some(overlap(module, update, &second)?);
            }
        }
        self.noises(update, &mut report, inputs)?;
        Ok(report)
    }

    fn noises(
        &self,
        update: &Update,
        report: &mut ModuleReport,
        inputs: &mut Vec<Input>,
    ) -> Result<()> {
        let module = self.layer.module.module.as_str();
        let neighbour = match self.layer.neighbour {
            Some(lora) if !self.noises.is_empty() => {
                Some((lora.module.as_str(), Pair::load(self.adapter, lora)?))
            }
            _ => None,
        };
        let subject = Subject {
            module,
            update,
            neighbour: neighbour.as_ref().map(|(module, pair)| (*module, pair)),
            random_seed: self.seeds[0],
            shuffle_seed: self.seeds[1],
        };
        let mut loaded: Vec<(&str, Weights)> = Vec::new();
        for noise in self.noises {
            (self.go)()?;
            let (weights, digests) = Weights::load(noise, module)?;
            inputs.extend(weight_inputs(noise, module, &digests)?);
            match measure(&noise.label, &weights, &subject, self.go)? {
                None => report.not_quantized.push(noise.label.clone()),
                Some(measured) => {
                    for (label, earlier) in &loaded {
                        (self.go)()?;
                        report
                            .pairs
                            .push(pair((label, earlier), (&noise.label, &weights)));
                    }
                    report.noises.push(measured);
                    loaded.push((&noise.label, weights));
                }
            }
        }
        Ok(())
    }
}

/// Two noises of one layer.
fn pair((first, a): (&str, &Weights), (second, b): (&str, &Weights)) -> NoisePair {
    let [a2, inner, b2] = inner_products(&a.noise(), &b.noise());
    let elements = a.original.rows() * a.original.cols();
    NoisePair {
        pair: format!("{first} × {second}"),
        cosine: Cosine::new(inner, a2, b2, elements),
    }
}

/// The account of a layer's weights: codes and scales under one digest.
fn weight_inputs(noise: &Noise, module: &str, digests: &[Digest; 2]) -> Result<Vec<Input>> {
    let sides = [
        ("original", &noise.original),
        ("quantized", &noise.quantized),
    ];
    let mut inputs = Vec::new();
    for ((role, checkpoint), digest) in sides.into_iter().zip(digests) {
        if let Some(weight) = checkpoint.weight(module) {
            let tensors = checkpoint.stored_tensors(weight)?;
            inputs.push(Input {
                role: format!("{} of {}", role, noise.label),
                tensor: Some(weight.tensor.clone()),
                file: shard(checkpoint, tensors[0].shard),
                blake3: digest.to_string(),
                bytes: tensors.iter().map(|t| t.bytes).sum(),
            });
        }
    }
    Ok(inputs)
}

fn shard(checkpoint: &Checkpoint, at: usize) -> String {
    checkpoint.shards()[at].display().to_string()
}

/// The account of a pair of factors.
fn adapter_inputs(role: &str, adapter: &Adapter, module: &LoraModule) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for tensor in [&module.a, &module.b] {
        inputs.push(Input {
            role: role.to_owned(),
            tensor: Some(tensor.name.clone()),
            file: adapter.identity().name.display().to_string(),
            blake3: adapter.stream(tensor, |_| Ok(()))?.to_string(),
            bytes: tensor.bytes,
        });
    }
    Ok(inputs)
}
