//! Which tensors of two checkpoints belong together, and what becomes of each.

use xgraft_adapter_sanitize::{Form, Reason, Rules};
use xgraft_checkpoint::{Checkpoint, Role, Weight};
use xgraft_results::{Finding, Severity};

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

/// The work of an extraction, in the order in which it is done.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Pairs by module name.
    pub pairs: Vec<Pair<'a>>,
    /// What does not match and was put up with.
    pub findings: Vec<Finding>,
}

/// Matches the weights of two checkpoints.
///
/// # Errors
/// Different architectures, a linear layer that only one of them has, or different shapes of
/// anything but vocabularies: the two are no base and fine-tune of each other.
pub fn plan<'a>(base: &'a Checkpoint, tuned: &'a Checkpoint, rules: Rules) -> Result<Plan<'a>> {
    same_architecture(base, tuned)?;
    let mut pairs = Vec::new();
    let mut findings = Vec::new();
    let mut lone = Vec::new();
    for weight in tuned.weights() {
        match counterpart(base, weight) {
            Some(other) => {
                let action = action(weight, other, rules, base)?;
                vocabulary_finding(weight, other, &mut findings);
                pairs.push(Pair {
                    module: weight.module.clone(),
                    tuned: weight,
                    base: other,
                    action,
                });
            }
            None => lone.push((weight, "the tuned checkpoint", "the base")),
        }
    }
    for weight in base.weights() {
        if counterpart(tuned, weight).is_none() {
            lone.push((weight, "the base", "the tuned checkpoint"));
        }
    }
    report_lone(&lone, base, tuned, &mut findings)?;
    if !pairs.iter().any(|p| p.action == Action::Factorize) {
        return Err(Error::NothingToExtract {
            base: base.dir().to_owned(),
            tuned: tuned.dir().to_owned(),
        });
    }
    pairs.sort_by(|a, b| natural(&a.module).cmp(&natural(&b.module)));
    Ok(Plan { pairs, findings })
}

/// The weight of the same module, or the embedding that a missing head is tied to.
fn counterpart<'a>(other: &'a Checkpoint, weight: &Weight) -> Option<&'a Weight> {
    other.weight_of_tensor(&weight.tensor).or_else(|| {
        (weight.role == Role::LmHead && other.config().tie_word_embeddings == Some(true))
            .then(|| other.weights().iter().find(|w| w.role == Role::Embedding))
            .flatten()
    })
}

fn action(tuned: &Weight, base: &Weight, rules: Rules, base_ck: &Checkpoint) -> Result<Action> {
    let vocabulary = matches!(tuned.role, Role::Embedding | Role::LmHead);
    let comparable = tuned.shape == base.shape
        || (vocabulary
            && tuned.shape.len() == 2
            && base.shape.len() == 2
            && tuned.shape[1] == base.shape[1]);
    if !comparable {
        return Err(Error::ShapeMismatch {
            tensor: tuned.tensor.clone(),
            base: base.shape.clone(),
            tuned: tuned.shape.clone(),
        });
    }
    if tuned.role == Role::LmHead && base.role == Role::Embedding {
        return Ok(Action::Drop(Reason::TiedHead));
    }
    let _ = base_ck;
    let form = if tuned.shape.len() == 2 && tuned.role != Role::Bias {
        Form::LowRank
    } else {
        Form::Full
    };
    let vocab = vocabulary.then(|| base.shape[0]);
    Ok(match rules.check(tuned.role, form, vocab) {
        Ok(()) if form == Form::LowRank => Action::Factorize,
        Ok(()) => Action::Copy,
        Err(reason) => Action::Drop(reason),
    })
}

fn same_architecture(base: &Checkpoint, tuned: &Checkpoint) -> Result<()> {
    let (b, t) = (base.config(), tuned.config());
    let differ = |field: &'static str, base: String, tuned: String| Error::ConfigMismatch {
        field,
        base,
        tuned,
    };
    if !b.architectures.is_empty()
        && !t.architectures.is_empty()
        && b.architectures != t.architectures
    {
        return Err(differ(
            "architectures",
            b.architectures.join(","),
            t.architectures.join(","),
        ));
    }
    for (field, base, tuned) in [
        ("hidden_size", b.hidden_size, t.hidden_size),
        ("intermediate_size", b.intermediate_size, t.intermediate_size),
        ("num_hidden_layers", b.num_hidden_layers, t.num_hidden_layers),
        ("num_attention_heads", b.num_attention_heads, t.num_attention_heads),
        ("num_key_value_heads", b.num_key_value_heads, t.num_key_value_heads),
        ("head_dim", b.head_dim, t.head_dim),
    ] {
        if let (Some(base), Some(tuned)) = (base, tuned)
            && base != tuned
        {
            return Err(differ(field, base.to_string(), tuned.to_string()));
        }
    }
    Ok(())
}

fn vocabulary_finding(tuned: &Weight, base: &Weight, findings: &mut Vec<Finding>) {
    if tuned.shape != base.shape {
        findings.push(
            Finding::new(
                Severity::Warning,
                "vocabulary-rows",
                &tuned.tensor,
                format!(
                    "the base has {} vocabulary rows, the tuned checkpoint {}; only the first {} are compared",
                    base.shape[0],
                    tuned.shape[0],
                    base.shape[0].min(tuned.shape[0])
                ),
            )
            .hint("rows that only the tuned checkpoint has cannot be carried by an adapter"),
        );
    }
}

/// A linear that only one side has ends the extraction; anything else is a finding.
fn report_lone(
    lone: &[(&Weight, &'static str, &'static str)],
    base: &Checkpoint,
    tuned: &Checkpoint,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let linears: Vec<&(&Weight, &str, &str)> =
        lone.iter().filter(|(w, _, _)| w.role.is_linear()).collect();
    if let Some((weight, present, absent)) = linears.first() {
        return Err(Error::MissingModule {
            tensor: weight.tensor.clone(),
            count: linears.len(),
            present_in: (if *present == "the base" { base } else { tuned }).dir().to_owned(),
            absent_from: (if *absent == "the base" { base } else { tuned }).dir().to_owned(),
        });
    }
    for (weight, present, absent) in lone {
        findings.push(Finding::new(
            Severity::Warning,
            "lone-tensor",
            &weight.tensor,
            format!("only {present} has this tensor, {absent} lacks it; it is left out"),
        ));
    }
    Ok(())
}

/// A key that sorts `layers.2` before `layers.10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    name.split('.')
        .map(|part| match part.parse::<u64>() {
            Ok(n) => (String::new(), n),
            Err(_) => (part.to_owned(), 0),
        })
        .collect()
}
