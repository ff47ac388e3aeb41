//! A whole checkpoint, weight by weight.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use xgraft_block_scale::{BlockShape, Extent};
use xgraft_checkpoint::{Checkpoint, Error as CheckpointError, Stored, Weight};
use xgraft_results::{Finding, Input};

use crate::error::{Error, Result};
use crate::judge::judge;
use crate::numbers::{BadScales, Numbers};
use crate::peers;
use crate::report::{Comparison, Report, Stats, TensorReport, by_role};
use crate::scan::{Scan, scan};
use crate::thresholds::{Group, Limits, Thresholds};
use crate::verdict::{Fault, Verdict};

/// What happens while an autopsy is made; the caller may stop it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The work is known.
    Planned {
        /// Numbers in all weights: the unit of progress.
        elements: u64,
    },
    /// A weight is begun.
    Begin {
        /// Its tensor.
        tensor: &'a str,
    },
    /// Some of it is done.
    Done {
        /// How many numbers more.
        elements: u64,
    },
}

/// Looks at every number of a checkpoint, beside those of `reference` if there is one.
///
/// One pass in strips of some rows a thread, so that memory follows neither the model nor its largest matrix; but packed
/// integers lie across rows, and their codes are in memory whole, those of one weight (and of its reference) at a time.
/// The report depends neither on the number of threads nor, but for `seconds`, on anything else than the files.
///
/// # Errors
/// Files that cannot be read, and [`Error::Interrupted`]. Sick weights are no error: they are in the verdicts,
/// and [`Report::healthy`] is false.
pub fn autopsy(
    checkpoint: &Checkpoint,
    reference: Option<&Checkpoint>,
    thresholds: &Thresholds,
    on_event: &dyn Fn(Event<'_>) -> ControlFlow<()>,
) -> Result<Report> {
    let start = Instant::now();
    let tell = |event: Event<'_>| match on_event(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    };
    let elements = |weight: &Weight| weight.shape.iter().product::<usize>() as u64;
    tell(Event::Planned {
        elements: checkpoint.weights().iter().map(elements).sum(),
    })?;
    let counterparts = Counterparts::new(reference);
    let (mut tensors, mut roles, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    let mut findings = counterparts.missing_from(checkpoint);
    for weight in checkpoint.weights() {
        tell(Event::Begin {
            tensor: &weight.tensor,
        })?;
        let other = match counterparts.of(weight) {
            Ok(other) => other,
            Err(finding) => {
                findings.push(*finding);
                None
            }
        };
        let limits = thresholds.of(Group::of(weight.role));
        let done = |elements: u64| tell(Event::Done { elements });
        match Numbers::open(checkpoint, weight) {
            Ok(Some(numbers)) => {
                let found = examine(&numbers, reference.zip(other), |rows| {
                    done((rows * numbers.cols) as u64)
                })?;
                let scales = numbers.bad_scales();
                let codes = numbers.has_codes();
                tensors.push(tensor_report(weight, Ok((found, codes)), scales, limits));
                roles.push(weight.role);
            }
            Ok(None) => {
                skipped.push(weight.tensor.clone());
                done(elements(weight))?;
            }
            Err(Error::Checkpoint(refused @ CheckpointError::Quantized { .. })) => {
                tensors.push(tensor_report(weight, Err(Box::new(refused)), None, limits));
                roles.push(weight.role);
                done(elements(weight))?;
            }
            Err(error) => return Err(error),
        }
    }
    peers::judge(&mut tensors, &roles, thresholds);
    findings.extend(tensors.iter().filter_map(TensorReport::finding));
    Ok(Report {
        schema: "xgraft.autopsy-report/1".into(),
        healthy: findings.is_empty(),
        roles: by_role(&tensors),
        tensors,
        skipped,
        thresholds: thresholds.to_json(),
        findings,
        bytes: checkpoint.total_bytes() + reference.map_or(0, Checkpoint::total_bytes),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Every tensor that an autopsy reads, with its digest, for the manifest: a pass of its own over `checkpoint`.
///
/// `on_bytes` is told of bytes that are done, and may stop it.
///
/// # Errors
/// Files that cannot be read, and [`Error::Interrupted`].
pub fn inputs(
    checkpoint: &Checkpoint,
    role: &str,
    on_bytes: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for tensor in checkpoint.tensors() {
        let digest = checkpoint.stream(tensor, |_| Ok(()))?;
        if on_bytes(tensor.bytes).is_break() {
            return Err(Error::Interrupted);
        }
        inputs.push(Input {
            role: role.to_owned(),
            tensor: Some(tensor.name.clone()),
            file: checkpoint.shards()[tensor.shard].display().to_string(),
            blake3: digest.to_hex(),
            bytes: tensor.bytes,
        });
    }
    Ok(inputs)
}

/// The statistics of a weight and whether it is stored as codes, or why its packed codes and scales are no numbers.
type Found = Result<(Scan, bool), Box<CheckpointError>>;

fn examine(
    numbers: &Numbers<'_>,
    reference: Option<(&Checkpoint, &Weight)>,
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Scan> {
    let reference = match reference {
        Some((checkpoint, weight)) => Numbers::open(checkpoint, weight)?,
        None => None,
    };
    scan(numbers, reference.as_ref(), progress)
}

fn tensor_report(
    weight: &Weight,
    found: Found,
    scales: Option<BadScales>,
    limits: &Limits,
) -> TensorReport {
    let mut report = TensorReport {
        tensor: weight.tensor.clone(),
        module: weight.module.clone(),
        role: Group::of(weight.role),
        stored: stored(weight),
        shape: weight.shape.clone(),
        verdict: Verdict::Healthy,
        faults: Vec::new(),
        stats: None,
        reference: None,
        blocks: 0,
    };
    match found {
        Ok((scan, codes)) => {
            report.faults = judge(&scan, scales, limits);
            let bad_scales = scales.map(|s| s.count());
            report.stats = Some(Stats::of(&scan, codes, bad_scales));
            report.reference = (scan.total.pairs.n > 0).then(|| Comparison::of(&scan));
            report.blocks = scan.blocks.len() as u64;
        }
        Err(error) => report.faults.push(Fault {
            verdict: Verdict::NotFinite,
            limit: None,
            measured: 1.0,
            blocks: 0,
            rows: None,
            columns: None,
            message: error.to_string(),
        }),
    }
    if let Some(worst) = report.faults.first() {
        report.verdict = worst.verdict;
    }
    report
}

/// `BF16`, or `F8_E4M3 128x128`: how the numbers of a weight are stored.
fn stored(weight: &Weight) -> String {
    if let Stored::Plain(dtype) = weight.stored {
        dtype.to_string()
    } else if let Stored::Fp8 { format, block, .. } = weight.stored {
        format!(
            "{} {}",
            xgraft_checkpoint::Dtype::from(format),
            block_text(block)
        )
    } else {
        "quantized".to_owned()
    }
}

fn block_text(block: BlockShape) -> String {
    let extent = |extent| match extent {
        Extent::Of(n) => n.to_string(),
        Extent::All => "all".to_owned(),
    };
    format!("{}x{}", extent(block.rows), extent(block.cols))
}

/// The weights of the reference by the names of their tensors, and of their modules where layouts name tensors differently.
struct Counterparts<'a> {
    reference: Option<&'a Checkpoint>,
    by_tensor: HashMap<&'a str, &'a Weight>,
}

impl<'a> Counterparts<'a> {
    fn new(reference: Option<&'a Checkpoint>) -> Self {
        let weights = reference.map_or(&[][..], Checkpoint::weights);
        Self {
            reference,
            by_tensor: weights.iter().map(|w| (w.tensor.as_str(), w)).collect(),
        }
    }

    /// The weight of the reference that this one should be; a finding when there is none or it has another shape.
    fn of(&self, weight: &Weight) -> Result<Option<&'a Weight>, Box<Finding>> {
        let Some(reference) = self.reference else {
            return Ok(None);
        };
        let by_module = || {
            reference
                .weight(&weight.module)
                .filter(|other| other.role == weight.role)
        };
        let other = self.by_tensor.get(weight.tensor.as_str()).copied();
        match other.or_else(by_module) {
            Some(other) if other.shape == weight.shape => Ok(Some(other)),
            Some(other) => Err(Box::new(
                Finding::error(
                    "shape-mismatch",
                    &weight.tensor,
                    format!(
                        "shape {:?}, expected {:?} as in the reference",
                        weight.shape, other.shape
                    ),
                )
                .hint("the reference must be the very model that this one was made from"),
            )),
            None => Err(Box::new(
                Finding::error("extra-tensor", &weight.tensor, "not in the reference")
                    .hint("the reference must be the very model that this one was made from"),
            )),
        }
    }

    /// What the reference has and the checkpoint lacks.
    fn missing_from(&self, checkpoint: &Checkpoint) -> Vec<Finding> {
        let Some(reference) = self.reference else {
            return Vec::new();
        };
        let own: HashMap<&str, &Weight> = checkpoint
            .weights()
            .iter()
            .map(|w| (w.tensor.as_str(), w))
            .collect();
        reference
            .weights()
            .iter()
            .filter(|w| !own.contains_key(w.tensor.as_str()))
            .filter(|w| {
                checkpoint
                    .weight(&w.module)
                    .is_none_or(|own| own.role != w.role)
            })
            .map(|w| {
                Finding::error(
                    "missing-tensor",
                    &w.tensor,
                    "in the reference but not in the checkpoint",
                )
                .hint("part of the model was not converted: convert it again")
            })
            .collect()
    }
}
