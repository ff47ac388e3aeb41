//! The independent check of an adapter: what base + adapter really is against the tuned weights.
//!
//! Everything is recomputed from the files, strip by strip, with a product of its own (faer's, not
//! the kernel of the extraction), and accumulated in f64.

use std::ops::ControlFlow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xgraft_adapter_sanitize::{Dropped, plain_lora};
use xgraft_checkpoint::{Adapter, Checkpoint, LoraKind, Role, Weight, WeightMatrix};
use xgraft_cpu_gemm::Source;
use xgraft_low_rank::{Config as SvdConfig, Stop, exact_singular_values, truncated_svd};
use xgraft_results::{Finding, Input, Row, Severity};

use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::{Matched, Pair, matched};
use crate::report::Stated;
use crate::stream::{delta_energy, extra_rows_energy, input, weight_energy};

/// Rows per strip. Sums are taken strip by strip in this fixed order, whatever the thread count.
const STRIP: usize = 64;

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

/// The verdict on one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The pair lies along the delta with the right scale, and makes the base better.
    Ok,
    /// The pair does not lie along the delta: swapped modules, or another fine-tune.
    Unrelated,
    /// It lies against the delta.
    FlippedSign,
    /// It lies along the delta with a wrong scale: alpha, or rank in the config.
    WrongScale,
    /// base + adapter is no nearer to the tuned weights than the base alone.
    NoBetterThanBase,
    /// The error is above the limit that was asked for.
    AboveLimit,
}

/// One module's check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleCheck {
    /// Module path.
    pub module: String,
    /// Rank of the pair.
    pub rank: usize,
    /// ‖W_base + sBA − W_tuned‖/‖W_tuned‖.
    pub relative_error: f64,
    /// ‖W_base − W_tuned‖/‖W_tuned‖: the error without the adapter.
    pub base_error: f64,
    /// ‖D − sBA‖/‖D‖ with D = W_tuned − W_base.
    pub update_residual: f64,
    /// The least update residual that any pair of this rank can have on this base.
    pub optimum: Option<f64>,
    /// How sure the optimum is: `exact`, `certified` or `estimated`.
    pub optimum_kind: Option<String>,
    /// `update_residual / optimum − 1`.
    pub excess: Option<f64>,
    /// ⟨D, sBA⟩/‖sBA‖²: 1 when the pair has the right sign and scale, 0 when it is unrelated.
    pub projection: f64,
    /// How far from 1 the projection may be by chance, given the size of what is left.
    pub projection_tolerance: f64,
    /// What the original base says of the quantized one and of the served weights; where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_original: Option<AgainstOriginal>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Served weights, base + adapter, against the base before it was quantized, W_original.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AgainstOriginal {
    /// ‖W_base − W_original‖/‖W_tuned − W_original‖: quantization noise over the fine-tune.
    pub noise_ratio: f64,
    /// Cosine of what is served of the fine-tune, W_base + sBA − W_original, and the fine-tune, W_tuned − W_original.
    pub delta_cosine: f64,
    /// Share of the elements that the fine-tune changed whose change keeps its sign.
    pub sign_agreement: f64,
}

/// A whole check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// `xgraft.verify-report/1`.
    pub schema: String,
    /// Whether every module is `ok` and the adapter covers enough of the update.
    pub passed: bool,
    /// Checked modules, in model order.
    pub modules: Vec<ModuleCheck>,
    /// ‖W_base + adapter − W_tuned‖/‖W_tuned‖ over the checked modules.
    pub relative_error: f64,
    /// The same without the adapter.
    pub base_error: f64,
    /// The same measures as of a module, over the checked modules; where the original base is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_original: Option<AgainstOriginal>,
    /// The least ‖W_base + BA − W_tuned‖/‖W_tuned‖ that pairs of these ranks can have over the checked modules
    /// (Eckart and Young); where the optimum of every module is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Tensors that differ and that the adapter does not change, by energy.
    pub uncovered: Vec<Dropped>,
    /// Their share of the energy of W_tuned − W_base.
    pub uncovered_share: f64,
    /// What a person should know; errors when a module is not `ok`.
    pub findings: Vec<Finding>,
}

impl Verification {
    /// The measurements as rows.
    #[must_use]
    pub fn rows(&self, arm: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for m in &self.modules {
            let mut push = |metric: &str, value: f64| {
                rows.push(
                    Row::new(metric, value)
                        .unit("1")
                        .arm(arm)
                        .module(&m.module)
                        .source("verify"),
                );
            };
            push("relative_error", m.relative_error);
            push("base_error", m.base_error);
            push("update_residual", m.update_residual);
            push("projection", m.projection);
            if let Some(optimum) = m.optimum {
                push("optimum", optimum);
            }
            if let Some(original) = m.against_original {
                push("noise_ratio", original.noise_ratio);
                push("delta_cosine", original.delta_cosine);
                push("delta_sign_agreement", original.sign_agreement);
            }
        }
        let original = self.against_original;
        for (metric, value) in [
            ("total_relative_error", Some(self.relative_error)),
            ("total_base_error", Some(self.base_error)),
            ("total_bound", self.bound),
            ("total_noise_ratio", original.map(|o| o.noise_ratio)),
            ("total_delta_cosine", original.map(|o| o.delta_cosine)),
            (
                "total_delta_sign_agreement",
                original.map(|o| o.sign_agreement),
            ),
        ] {
            let row =
                value.map(|value| Row::new(metric, value).unit("1").arm(arm).source("verify"));
            rows.extend(row);
        }
        rows
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
    report.findings = findings(&report, config);
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

/// sBA as a left factor [rows, r] times a right factor [r, cols].
struct LowRank {
    left: Vec<f32>,
    right: Vec<f32>,
    rank: usize,
    scale: f64,
}

fn load_pair(adapter: &Adapter, pair: &Pair<'_>) -> Result<LowRank> {
    let entry = adapter
        .module(&pair.module)
        .ok_or_else(|| Error::UnknownModule {
            module: pair.module.clone(),
            base: adapter.dir().to_owned(),
        })?;
    let (a, b) = (adapter.load_a(entry)?, adapter.load_b(entry)?);
    let (left, right) = if entry.kind == LoraKind::Embedding {
        (a.transposed(), b.transposed()) // ΔW [vocab, hidden] = (B A)ᵀ = Aᵀ Bᵀ
    } else {
        (b, a)
    };
    let expected = [pair.base.shape[0], pair.base.shape[1]];
    if [left.rows, right.cols] != expected {
        return Err(Error::AdapterShape {
            module: pair.module.clone(),
            expected,
            found: [left.rows, right.cols],
        });
    }
    if !left.data.iter().chain(&right.data).all(|x| x.is_finite()) {
        return Err(Error::NotFinite {
            tensor: format!("{} (adapter)", pair.module),
        });
    }
    Ok(LowRank {
        rank: left.cols,
        left: left.data,
        right: right.data,
        scale: entry.scale,
    })
}

/// Sums over a module, all in f64.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// ‖W_tuned‖²
    tuned2: f64,
    /// ‖D‖², D = W_tuned − W_base
    delta2: f64,
    /// ‖D − L‖², L = sBA
    rest2: f64,
    /// ‖L‖²
    adapter2: f64,
    /// ⟨D, L⟩
    inner: f64,
    /// ‖W_base − W_original‖²
    noise2: f64,
    /// ‖F‖², F = W_tuned − W_original
    tune2: f64,
    /// ‖S‖², S = W_base + L − W_original
    served2: f64,
    /// ⟨F, S⟩
    served: f64,
    /// Elements of F that are not zero.
    changed: f64,
    /// Those of them that have the sign of S.
    same_sign: f64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.tuned2 += other.tuned2;
        self.delta2 += other.delta2;
        self.rest2 += other.rest2;
        self.adapter2 += other.adapter2;
        self.inner += other.inner;
        self.noise2 += other.noise2;
        self.tune2 += other.tune2;
        self.served2 += other.served2;
        self.served += other.served;
        self.changed += other.changed;
        self.same_sign += other.same_sign;
    }

    fn against_original(&self) -> AgainstOriginal {
        let norms = (self.tune2 * self.served2).sqrt();
        AgainstOriginal {
            noise_ratio: ratio(self.noise2, self.tune2),
            delta_cosine: if norms > 0.0 {
                self.served / norms
            } else {
                0.0
            },
            sign_agreement: if self.changed > 0.0 {
                self.same_sign / self.changed
            } else {
                1.0
            },
        }
    }
}

fn measure(
    tuned: &WeightMatrix,
    base: &WeightMatrix,
    original: Option<&WeightMatrix>,
    low_rank: &LowRank,
) -> Sums {
    let rows = tuned.rows().min(base.rows());
    let cols = base.cols();
    let strips: Vec<Sums> = (0..rows.div_ceil(STRIP))
        .into_par_iter()
        .map(|strip| {
            let range = strip * STRIP..rows.min((strip + 1) * STRIP);
            let n = range.len() * cols;
            let (mut t, mut b, mut l) = (vec![0f32; n], vec![0f32; n], vec![0f32; n]);
            tuned.pack(range.clone(), 0..cols, &mut t, cols);
            base.pack(range.clone(), 0..cols, &mut b, cols);
            multiply(low_rank, range, cols, &mut l);
            let mut sums = Sums::default();
            for ((&t, &b), &l) in t.iter().zip(&b).zip(&l) {
                let (t, b) = (f64::from(t), f64::from(b));
                let l = f64::from(l) * low_rank.scale;
                let d = t - b;
                sums.tuned2 += t * t;
                sums.delta2 += d * d;
                sums.rest2 += (d - l) * (d - l);
                sums.adapter2 += l * l;
                sums.inner += d * l;
            }
            if let Some(original) = original {
                let mut o = vec![0f32; n];
                original.pack(
                    strip * STRIP..rows.min((strip + 1) * STRIP),
                    0..cols,
                    &mut o,
                    cols,
                );
                for (((&t, &b), &l), &o) in t.iter().zip(&b).zip(&l).zip(&o) {
                    let o = f64::from(o);
                    let noise = f64::from(b) - o;
                    let tune = f64::from(t) - o;
                    let served = noise + f64::from(l) * low_rank.scale;
                    sums.noise2 += noise * noise;
                    sums.tune2 += tune * tune;
                    sums.served2 += served * served;
                    sums.served += tune * served;
                    sums.changed += f64::from(u8::from(tune != 0.0));
                    sums.same_sign += f64::from(u8::from(tune * served > 0.0));
                }
            }
            sums
        })
        .collect();
    let mut total = Sums::default();
    strips.iter().for_each(|s| total.add(s));
    total
}

/// Rows `range` of left · right, by faer.
fn multiply(l: &LowRank, range: std::ops::Range<usize>, cols: usize, out: &mut [f32]) {
    let rows = range.len();
    let left = &l.left[range.start * l.rank..range.end * l.rank];
    faer::linalg::matmul::matmul(
        faer::MatMut::from_row_major_slice_mut(out, rows, cols),
        faer::Accum::Replace,
        faer::MatRef::from_row_major_slice(left, rows, l.rank),
        faer::MatRef::from_row_major_slice(&l.right, l.rank, cols),
        1.0,
        faer::Par::Seq,
    );
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
    let sums = measure(&tuned, &base, original.as_ref(), &low_rank);
    drop(original);
    let (optimum, kind) = optimum(&tuned, &base, &low_rank, pair, config)?;
    let update_residual = ratio(sums.rest2, sums.delta2);
    let projection = if sums.adapter2 > 0.0 {
        sums.inner / sums.adapter2
    } else {
        0.0
    };
    let elements = (tuned.rows().min(base.rows()) * base.cols()) as f64;
    // what is left, were it white, has an inner product with L of this size by chance
    let chance = (sums.rest2 / elements / sums.adapter2.max(f64::MIN_POSITIVE)).sqrt();
    let tolerance = (6.0 * chance).max(0.02);
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
        projection,
        projection_tolerance: tolerance,
        against_original: original_ck.map(|_| sums.against_original()),
        verdict: verdict(&sums, projection, tolerance, relative_error, config),
    };
    let inputs = vec![
        input("base", base_ck, pair.base, &base_digest)?,
        input("tuned", tuned_ck, pair.tuned, &tuned_digest)?,
    ];
    Ok((check, sums, inputs))
}

fn load_original(original: &Checkpoint, pair: &Pair<'_>) -> Result<WeightMatrix> {
    let weight = original.weight(&pair.module);
    match weight {
        Some(weight) if weight.shape == pair.base.shape => Ok(original.load(weight)?.0),
        _ => Err(Error::ShapeMismatch {
            tensor: pair.base.tensor.clone(),
            expected: pair.base.shape.clone(),
            base: pair.base.tensor.clone().into(),
            found: weight.map(|w| w.shape.clone()).unwrap_or_default(),
            tuned: original.dir().to_owned(),
        }),
    }
}

fn verdict(
    sums: &Sums,
    projection: f64,
    tolerance: f64,
    relative_error: f64,
    config: &VerifyConfig,
) -> Verdict {
    if sums.adapter2 == 0.0 && sums.delta2 == 0.0 {
        return Verdict::Ok;
    }
    // the direction first, by the cosine, which knows nothing of the scale; then the scale
    let cosine = sums.inner / (sums.adapter2 * sums.delta2).sqrt().max(f64::MIN_POSITIVE);
    if cosine.abs() <= 0.02 {
        Verdict::Unrelated
    } else if cosine < 0.0 {
        Verdict::FlippedSign
    } else if (projection - 1.0).abs() > tolerance {
        Verdict::WrongScale
    } else if sums.rest2 >= sums.delta2 {
        Verdict::NoBetterThanBase
    } else if config.max_error.is_some_and(|limit| relative_error > limit) {
        Verdict::AboveLimit
    } else {
        Verdict::Ok
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

fn findings(report: &Verification, config: &VerifyConfig) -> Vec<Finding> {
    let mut findings: Vec<Finding> = report
        .modules
        .iter()
        .filter(|m| m.verdict != Verdict::Ok)
        .map(|m| Finding::new(Severity::Error, "bad-module", &m.module, explain(m)))
        .collect();
    if report.uncovered_share > xgraft_adapter_sanitize::WARN_SHARE {
        let too_much = report.uncovered_share > config.max_uncovered;
        findings.push(
            Finding::new(
                if too_much {
                    Severity::Error
                } else {
                    Severity::Warning
                },
                "uncovered-energy",
                "adapter",
                format!(
                    "{:.1} % of the energy of tuned − base lies in {} tensors that the adapter does not change",
                    100.0 * report.uncovered_share,
                    report.uncovered.len()
                ),
            )
            .hint("the relative errors above are of the adapted modules only"),
        );
    }
    findings
}

fn explain(m: &ModuleCheck) -> String {
    let p = m.projection;
    match m.verdict {
        Verdict::Ok => "ok".into(),
        Verdict::Unrelated => format!(
            "the pair is unrelated to the delta (projection {p:.3}, expected 1): modules swapped, or another fine-tune"
        ),
        Verdict::FlippedSign => {
            format!("the pair lies against the delta (projection {p:.3}, expected 1): flipped sign")
        }
        Verdict::WrongScale => format!(
            "the pair has the wrong scale (projection {p:.3}, expected 1 ± {:.3}): it should be {p:.3} times as large; check lora_alpha and r",
            m.projection_tolerance
        ),
        Verdict::NoBetterThanBase => format!(
            "base + adapter is no nearer to the tuned weights than the base alone (error {:.3e} against {:.3e})",
            m.relative_error, m.base_error
        ),
        Verdict::AboveLimit => {
            format!("relative error {:.3e} is above the limit", m.relative_error)
        }
    }
}

/// √(a/b), 0 when there is nothing to relate to.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { (a / b).sqrt() } else { 0.0 }
}
