//! The independent check of an adapter: what base + adapter really is against the tuned weights.
//!
//! Everything is recomputed from the files, strip by strip, with a product of its own (faer's, not
//! the kernel of the extraction), and accumulated in f64.

mod direction;
mod measure;
mod report;

use std::ops::ControlFlow;

use xgraft_adapter_sanitize::{Dropped, plain_lora};
use xgraft_checkpoint::{Adapter, Checkpoint, Role, Weight, WeightMatrix};
use xgraft_cpu_gemm::Source as _;
use xgraft_low_rank::{Config as SvdConfig, Stop, exact_singular_values, truncated_svd};
use xgraft_results::Input;

pub use self::direction::Direction;
use self::direction::Lies;
use self::measure::{LowRank, Sums, load_pair, measure, ratio};
pub use self::report::{AgainstOriginal, JudgedBy, ModuleCheck, Verdict, Verification};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::{Matched, Pair, matched};
use crate::report::Stated;
use crate::stream::{delta_energy, extra_rows_energy, input, weight_energy};

/// How the optimum of a module's rank is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimum {
    /// Not at all.
    Skip,
    /// By a randomized factorization of the delta, which also says how sure it is.
    Randomized,
    /// From all singular values in f64: exact, and slow (a 5120 × 5120 matrix takes many seconds).
    Exact,
}

/// What a check is asked to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VerifyConfig {
    /// How the optimum is found.
    pub optimum: Optimum,
    /// Fail when ‖W_base + BA − W_tuned‖/‖W_tuned‖ of a module is above this.
    pub max_error: Option<f64>,
    /// Fail when more than this share of the energy of tuned − base is in tensors that the adapter
    /// does not change.
    pub max_uncovered: f64,
    /// Seed of the randomized factorization.
    pub seed: u64,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self {
            optimum: Optimum::Randomized,
            max_error: None,
            max_uncovered: 0.5,
            seed: 1,
        }
    }
}

/// What happens while a check runs; the caller may stop it.
#[derive(Debug)]
#[non_exhaustive]
pub enum VerifyEvent<'a> {
    /// The plan is made.
    Planned {
        /// Elements in all pairs: the unit of progress.
        elements: u64,
    },
    /// A module is begun.
    Begin {
        /// Its path.
        module: &'a str,
    },
    /// A pair of tensors is done.
    Done {
        /// Its elements.
        elements: u64,
    },
}

/// Recomputes, module by module, how near base + adapter comes to the tuned weights; with `original`, the base before it
/// was quantized, also how much of the fine-tune is served.
///
/// # Errors
/// Files that cannot be read or do not belong together. A bad adapter is no error: it is in the
/// verdicts, and [`Verification::passed`] is false.
pub fn verify(
    base: &Checkpoint,
    tuned: &Checkpoint,
    original: Option<&Checkpoint>,
    adapter: &Adapter,
    config: &VerifyConfig,
    on_event: &dyn Fn(VerifyEvent<'_>) -> ControlFlow<()>,
) -> Result<(Verification, Vec<Input>)> {
    let tell = |event: VerifyEvent<'_>| match on_event(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    };
    plain_lora(adapter)?;
    let Matched {
        pairs, lone_tuned, ..
    } = matched(base, tuned)?;
    known_modules(adapter, base, &pairs)?;
    tell(VerifyEvent::Planned {
        elements: pairs.iter().map(Pair::elements).sum(),
    })?;
    let mut inputs = Vec::new();
    let mut modules = Vec::new();
    let mut sums = Sums::default();
    let mut bound2 = Some(0.0);
    let mut uncovered = Vec::new();
    for pair in &pairs {
        tell(VerifyEvent::Begin {
            module: &pair.module,
        })?;
        if adapter.module(&pair.module).is_some() {
            let (check, these, read) =
                check_module((base, tuned, original), adapter, pair, config)?;
            let optimum2 = check.optimum.map(|o| o * o * these.delta2);
            bound2 = bound2.zip(optimum2).map(|(sum, one)| sum + one);
            sums.add(&these);
            let extra = extra_rows_energy(tuned, pair)?;
            if extra > 0.0 {
                uncovered.push((format!("{} (extra rows)", pair.tuned.tensor), extra));
            }
            modules.push(check);
            inputs.extend(read);
        } else {
            let (energy, read) = delta_energy(base, tuned, pair)?;
            inputs.extend(read);
            let carried = carried_whole(adapter, tuned, pair)?;
            if energy > 0.0 && !carried {
                uncovered.push((pair.tuned.tensor.clone(), energy));
            }
        }
        tell(VerifyEvent::Done {
            elements: pair.elements(),
        })?;
    }
    for weight in lone_tuned {
        uncovered.push((weight.tensor.clone(), weight_energy(tuned, weight)?));
    }
    let (uncovered, uncovered_share) = shares(uncovered, sums.delta2);
    let mut report = Verification {
        schema: "xgraft.verify-report/1".into(),
        passed: uncovered_share <= config.max_uncovered
            && modules.iter().all(|m| m.verdict == Verdict::Ok),
        relative_error: ratio(sums.rest2, sums.tuned2),
        base_error: ratio(sums.delta2, sums.tuned2),
        against_original: original.map(|_| sums.against_original()),
        bound: bound2.map(|bound2| ratio(bound2, sums.tuned2)),
        modules,
        uncovered,
        uncovered_share,
        findings: Vec::new(),
    };
    report.findings = report::findings(&report, config);
    Ok((report, inputs))
}

/// Whether the adapter carries the tuned tensor whole, as PEFT's `modules_to_save` does.
fn carried_whole(adapter: &Adapter, tuned: &Checkpoint, pair: &Pair<'_>) -> Result<bool> {
    let Some(whole) = adapter.others().find(|t| t.module == pair.module) else {
        return Ok(false);
    };
    let (own, _) = adapter.load(&whole.info)?;
    let (tuned, _) = tuned.load(pair.tuned)?;
    Ok(own.to_f32() == tuned.to_f32())
}

fn check_module(
    (base_ck, tuned_ck, original_ck): (&Checkpoint, &Checkpoint, Option<&Checkpoint>),
    adapter: &Adapter,
    pair: &Pair<'_>,
    config: &VerifyConfig,
) -> Result<(ModuleCheck, Sums, Vec<Input>)> {
    let low_rank = load_pair(adapter, pair)?;
    let (tuned, base) = rayon::join(|| tuned_ck.load(pair.tuned), || base_ck.load(pair.base));
    let ((tuned, tuned_digest), (base, base_digest)) = (tuned?, base?);
    let original = original_ck
        .map(|original| load_original(original, pair))
        .transpose()?;
    let sums = measure(
        &tuned,
        &base,
        original.as_ref().map(|(matrix, _)| matrix),
        &low_rank,
    );
    let original = original.map(|(_, input)| input);
    let (optimum, kind) = optimum(&tuned, &base, &low_rank, pair, config)?;
    let update_residual = ratio(sums.rest2, sums.delta2);
    let judged_by = match original_ck {
        Some(_) => judged_by(&sums),
        None => JudgedBy::Delta,
    };
    let relative_error = ratio(sums.rest2, sums.tuned2);
    let check = ModuleCheck {
        module: pair.module.clone(),
        rank: low_rank.rank,
        relative_error,
        base_error: ratio(sums.delta2, sums.tuned2),
        update_residual,
        optimum,
        optimum_kind: kind,
        excess: optimum
            .filter(|&o| o > 3e-5) // below, both are rounding
            .map(|o| update_residual / o - 1.0),
        direction: sums.along_delta(),
        against_original: original_ck.map(|_| sums.against_original()),
        judged_by,
        verdict: verdict(&sums, judged_by, relative_error, config),
    };
    let mut inputs = vec![
        input("base", base_ck, pair.base, &base_digest)?,
        input("tuned", tuned_ck, pair.tuned, &tuned_digest)?,
    ];
    inputs.extend(original);
    Ok((check, sums, inputs))
}

/// The weight of the base before it was quantized, and the account of it.
fn load_original(original: &Checkpoint, pair: &Pair<'_>) -> Result<(WeightMatrix, Input)> {
    let weight = original.weight(&pair.module);
    match weight {
        Some(weight) if weight.shape == pair.base.shape => {
            let (matrix, digest) = original.load(weight)?;
            Ok((matrix, input("original", original, weight, &digest)?))
        }
        _ => Err(Error::ShapeMismatch {
            tensor: pair.base.tensor.clone(),
            expected: pair.base.shape.clone(),
            base: pair.base.tensor.clone().into(),
            found: weight.map(|w| w.shape.clone()).unwrap_or_default(),
            tuned: original.dir().to_owned(),
        }),
    }
}

/// The difference that a pair was made of: tuned − base (Method B), or tuned − original (Method A), which the noise of a
/// quantized base hides in tuned − base. A pair that lies along neither is judged by the one that it is nearer to.
fn judged_by(sums: &Sums) -> JudgedBy {
    let (delta, fine_tune) = (sums.along_delta(), sums.along_fine_tune());
    let nearer = fine_tune.cosine.abs() > delta.cosine.abs();
    match (delta.lies(), fine_tune.lies()) {
        (Lies::Along, _) => JudgedBy::Delta,
        (_, Lies::Along) => JudgedBy::FineTune,
        _ if nearer => JudgedBy::FineTune,
        _ => JudgedBy::Delta,
    }
}

fn verdict(
    sums: &Sums,
    judged_by: JudgedBy,
    relative_error: f64,
    config: &VerifyConfig,
) -> Verdict {
    let (direction, whole2, rest2) = match judged_by {
        JudgedBy::Delta => (sums.along_delta(), sums.delta2, sums.rest2),
        JudgedBy::FineTune => (sums.along_fine_tune(), sums.tune2, sums.tune_rest2),
    };
    if sums.adapter2 == 0.0 && whole2 == 0.0 {
        return Verdict::Ok;
    }
    match direction.lies() {
        Lies::Apart => Verdict::Unrelated,
        Lies::Against => Verdict::FlippedSign,
        Lies::AlongWithAnotherSize => Verdict::WrongScale,
        Lies::Along if rest2 >= whole2 => Verdict::NoBetterThanBase,
        Lies::Along if config.max_error.is_some_and(|limit| relative_error > limit) => {
            Verdict::AboveLimit
        }
        Lies::Along => Verdict::Ok,
    }
}

fn optimum(
    tuned: &WeightMatrix,
    base: &WeightMatrix,
    low_rank: &LowRank,
    pair: &Pair<'_>,
    config: &VerifyConfig,
) -> Result<(Option<f64>, Option<String>)> {
    let delta = Delta::new(tuned, base);
    let failed = |source| Error::LowRank {
        module: pair.module.clone(),
        source,
    };
    match config.optimum {
        Optimum::Skip => Ok((None, None)),
        Optimum::Exact => {
            let s = exact_singular_values(&delta).map_err(failed)?;
            let total: f64 = s.iter().map(|x| x * x).sum();
            let tail: f64 = s.iter().skip(low_rank.rank).map(|x| x * x).sum();
            Ok((Some(ratio(tail, total)), Some("exact".into())))
        }
        Optimum::Randomized => {
            let svd = SvdConfig {
                stop: Stop::Rank(low_rank.rank.min(delta.rows()).min(delta.cols())),
                seed: config.seed,
                ..SvdConfig::default()
            };
            let factors =
                truncated_svd(&delta, &svd, &|_| ControlFlow::Continue(())).map_err(failed)?;
            let stated = Stated::from(factors.optimum(factors.rank()));
            let achieved = ratio(factors.residual2(factors.rank()), factors.norm2);
            Ok((
                Some(achieved / (1.0 + stated.value())),
                Some(stated.kind().to_owned()),
            ))
        }
    }
}

/// Every module of the adapter must be a 2-D weight of the model.
fn known_modules(adapter: &Adapter, base: &Checkpoint, pairs: &[Pair<'_>]) -> Result<()> {
    let is_matrix =
        |w: &Weight| w.shape.len() == 2 && !matches!(w.role, Role::Bias | Role::Norm(_));
    for module in adapter.modules() {
        let known = pairs
            .iter()
            .any(|p| p.module == module.module && is_matrix(p.base));
        if !known {
            return Err(Error::UnknownModule {
                module: module.module.clone(),
                base: base.dir().to_owned(),
            });
        }
    }
    Ok(())
}

fn shares(uncovered: Vec<(String, f64)>, covered2: f64) -> (Vec<Dropped>, f64) {
    let total = covered2 + uncovered.iter().map(|(_, e)| e).sum::<f64>();
    let mut list: Vec<Dropped> = uncovered
        .into_iter()
        .map(|(tensor, energy)| Dropped {
            tensor,
            reason: "not-in-adapter".into(),
            energy: Some(energy),
            share: Some(energy / total),
        })
        .collect();
    list.sort_by(|a, b| b.share.unwrap_or(0.0).total_cmp(&a.share.unwrap_or(0.0)));
    let share = list
        .iter()
        .filter_map(|d| d.share)
        .fold(0.0, |sum, s| sum + s);
    (list, share)
}
