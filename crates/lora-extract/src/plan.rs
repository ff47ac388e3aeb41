//! Which tensors of two checkpoints belong together, and what becomes of each.

use std::collections::HashMap;
use std::path::PathBuf;

use xgraft_adapter_sanitize::{Form, Reason, Rules};
use xgraft_checkpoint::{Checkpoint, Role, Weight};
use xgraft_results::Finding;

use crate::error::{Error, Result};

/// A pair of weights and what is done with their difference.
#[derive(Debug, Clone)]
pub struct Pair<'a> {
    /// Module path, for example `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// The tuned weight.
    pub tuned: &'a Weight,
    /// The base weight.
    pub base: &'a Weight,
    /// What is done with it.
    pub action: Action,
}

impl Pair<'_> {
    /// Elements that both have: the cost of the module, for progress and time left.
    #[must_use]
    pub fn elements(&self) -> u64 {
        let count = |w: &Weight| w.shape.iter().map(|&d| d as u64).product::<u64>();
        count(self.tuned).min(count(self.base))
    }
}

/// What is done with the difference of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Factorized into a LoRA pair.
    Factorize,
    /// Copied whole from the tuned checkpoint (PEFT's `modules_to_save`).
    Copy,
    /// Left out; its energy is measured and reported.
    Drop(Reason),
}

/// The tensors of two checkpoints that belong together, and those that do not.
#[derive(Debug)]
pub(crate) struct Matched<'a> {
    pub(crate) pairs: Vec<Pair<'a>>,
    /// Tensors that only the tuned checkpoint has; none of them is a linear layer.
    pub(crate) lone_tuned: Vec<&'a Weight>,
    pub(crate) findings: Vec<Finding>,
}

/// The work of an extraction, in the order in which it is done.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Pairs by module name.
    pub pairs: Vec<Pair<'a>>,
    /// Tensors that only the tuned checkpoint has; an adapter cannot carry them.
    pub lone_tuned: Vec<&'a Weight>,
    /// What does not match and was put up with.
    pub findings: Vec<Finding>,
}

/// Matches the weights of two checkpoints and decides what becomes of each difference.
///
/// # Errors
/// Different architectures, a linear layer that only one of them has, or different shapes of
/// anything but vocabularies: the two are no base and fine-tune of each other.
pub fn plan<'a>(base: &'a Checkpoint, tuned: &'a Checkpoint, rules: Rules) -> Result<Plan<'a>> {
    let Matched {
        mut pairs,
        lone_tuned,
        findings,
    } = matched(base, tuned)?;
    let tied = base.tied_embeddings();
    for pair in &mut pairs {
        pair.action = action(pair, rules, tied);
    }
    let plan = Plan {
        pairs,
        lone_tuned,
        findings,
    };
    if !plan.pairs.iter().any(|p| p.action == Action::Factorize) {
        return Err(Error::NothingToExtract {
            base: base.dir().to_owned(),
            tuned: tuned.dir().to_owned(),
        });
    }
    Ok(plan)
}

/// The pairs of two checkpoints, whatever is done with them; every action is [`Action::Copy`].
///
/// # Errors
/// As [`plan`].
pub(crate) fn matched<'a>(base: &'a Checkpoint, tuned: &'a Checkpoint) -> Result<Matched<'a>> {
    same_architecture(base, tuned)?;
    let (base_names, tuned_names) = (by_name(base), by_name(tuned));
    let mut pairs = Vec::new();
    let mut findings = Vec::new();
    let mut lone = Vec::new();
    for weight in tuned.weights() {
        match counterpart(base, &base_names, weight) {
            Some(other) => {
                comparable((tuned, weight), (base, other))?;
                findings.extend(vocabulary_finding(weight, other));
                pairs.push(Pair {
                    module: weight.module.clone(),
                    tuned: weight,
                    base: other,
                    action: Action::Copy,
                });
            }
            None => lone.push((weight, tuned, base)),
        }
    }
    for weight in base.weights() {
        match counterpart(tuned, &tuned_names, weight) {
            // a head of its own in the base, tied in the tuned checkpoint
            Some(other) if other.plain_name() != weight.plain_name() => {
                comparable((tuned, other), (base, weight))?;
                pairs.push(Pair {
                    module: weight.module.clone(),
                    tuned: other,
                    base: weight,
                    action: Action::Copy,
                });
            }
            Some(_) => {}
            None if weight.is_input_scale() => {}
            None => lone.push((weight, base, tuned)),
        }
    }
    missing_linear(&lone)?;
    findings.extend(lone.iter().map(|(weight, present, absent)| {
        Finding::warning(
            "lone-tensor",
            &weight.tensor,
            format!(
                "{} has this tensor, {} lacks it; it is left out",
                present.dir().display(),
                absent.dir().display()
            ),
        )
    }));
    let lone_tuned = lone
        .iter()
        .filter(|(_, present, _)| std::ptr::eq(*present, tuned))
        .map(|(weight, _, _)| *weight)
        .collect();
    Ok(Matched {
        pairs,
        lone_tuned,
        findings,
    })
}

fn by_name(checkpoint: &Checkpoint) -> HashMap<String, &Weight> {
    let weights = checkpoint.weights().iter();
    weights.map(|w| (w.plain_name(), w)).collect()
}

/// The weight of the same tensor, or the embedding that a missing head is tied to.
fn counterpart<'a>(
    checkpoint: &'a Checkpoint,
    by_name: &HashMap<String, &'a Weight>,
    weight: &Weight,
) -> Option<&'a Weight> {
    let tied = || {
        (weight.role == Role::LmHead && checkpoint.tied_embeddings())
            .then(|| {
                checkpoint
                    .weights()
                    .iter()
                    .find(|w| w.role == Role::Embedding)
            })
            .flatten()
    };
    by_name.get(&weight.plain_name()).copied().or_else(tied)
}

fn is_vocabulary(weight: &Weight) -> bool {
    matches!(weight.role, Role::Embedding | Role::LmHead)
}

/// The file that holds a weight.
fn file_of(checkpoint: &Checkpoint, weight: &Weight) -> PathBuf {
    let tensor = checkpoint.tensor(&weight.tensor);
    tensor.map_or_else(
        || checkpoint.dir().to_owned(),
        |tensor| checkpoint.dir().join(&checkpoint.shards()[tensor.shard]),
    )
}

/// Shapes must be equal; vocabularies may differ in rows.
fn comparable(
    (tuned_dir, tuned): (&Checkpoint, &Weight),
    (base_dir, base): (&Checkpoint, &Weight),
) -> Result<()> {
    let ((base_rows, base_cols), (tuned_rows, tuned_cols)) =
        (base.matrix_shape(), tuned.matrix_shape());
    let rows_may_differ = is_vocabulary(tuned) && tuned.shape.len() == 2;
    if base.shape.len() == tuned.shape.len()
        && base_cols == tuned_cols
        && (base_rows == tuned_rows || rows_may_differ)
    {
        return Ok(());
    }
    Err(Error::ShapeMismatch {
        tensor: tuned.tensor.clone(),
        expected: base.shape.clone(),
        base: file_of(base_dir, base),
        found: tuned.shape.clone(),
        tuned: file_of(tuned_dir, tuned),
    })
}

fn action(pair: &Pair<'_>, rules: Rules, tied: bool) -> Action {
    // an adapter of one side of a tie would leave the other side as it is
    if pair.tuned.role != pair.base.role || (tied && is_vocabulary(pair.tuned)) {
        return Action::Drop(Reason::TiedHead);
    }
    let low_rank =
        pair.tuned.shape.len() == 2 && !matches!(pair.tuned.role, Role::Bias | Role::Norm(_));
    let form = if low_rank { Form::LowRank } else { Form::Full };
    let vocab = is_vocabulary(pair.tuned).then(|| pair.base.shape[0]);
    match rules.check(pair.tuned.role, form, vocab) {
        Ok(()) if low_rank => Action::Factorize,
        Ok(()) => Action::Copy,
        Err(reason) => Action::Drop(reason),
    }
}

fn same_architecture(base: &Checkpoint, tuned: &Checkpoint) -> Result<()> {
    match base.config().first_difference(tuned.config()) {
        None => Ok(()),
        Some((field, expected, found)) => Err(Error::ConfigMismatch {
            field,
            expected,
            base: base.dir().join("config.json"),
            found,
            tuned: tuned.dir().join("config.json"),
        }),
    }
}

fn vocabulary_finding(tuned: &Weight, base: &Weight) -> Option<Finding> {
    let (rows, tuned_rows) = (base.matrix_shape().0, tuned.matrix_shape().0);
    (rows != tuned_rows).then(|| {
        Finding::warning(
            "vocabulary-rows",
            &tuned.tensor,
            format!(
                "the base has {rows} vocabulary rows, the tuned checkpoint {tuned_rows}; only the first {} can be adapted",
                rows.min(tuned_rows)
            ),
        )
        .hint("an adapter has the base's rows: further rows of the tuned checkpoint are lost, missing ones stay unchanged")
    })
}

/// A linear layer that only one side has ends the extraction.
fn missing_linear(lone: &[(&Weight, &Checkpoint, &Checkpoint)]) -> Result<()> {
    let mut linears = lone.iter().filter(|(w, _, _)| w.role.is_linear());
    let Some((weight, present, absent)) = linears.next() else {
        return Ok(());
    };
    Err(Error::MissingModule {
        tensor: weight.tensor.clone(),
        count: 1 + linears.count(),
        present_in: present.dir().to_owned(),
        absent_from: absent.dir().to_owned(),
    })
}

/// The name of a role in reports, for grouping.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Embedding => "embedding",
        Role::LmHead => "lm_head",
        Role::Norm(_) => "norm",
        Role::Q => "q",
        Role::K => "k",
        Role::V => "v",
        Role::O => "o",
        Role::Gate => "gate",
        Role::Up => "up",
        Role::Down => "down",
        Role::OtherLinear => "linear",
        Role::Bias => "bias",
        Role::Other => "other",
    }
}
