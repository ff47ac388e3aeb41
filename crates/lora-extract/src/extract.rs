//! The extraction: plan, factorize module by module, choose ranks, write the adapter.

use std::ops::ControlFlow;
use std::time::Instant;

use serde_json::{Value, json};
use xgraft_adapter_sanitize::{Ledger, Reason, VLLM_RANKS, ladder_up};
use xgraft_checkpoint::{Checkpoint, Identity as _, OutputDir};
use xgraft_cpu_gemm::{Source, squared_norm};
use xgraft_low_rank::{Config as SvdConfig, Stop, truncated_svd};
use xgraft_results::{Finding, Input, Severity};

use crate::adapter::write_adapter;
use crate::config::Config;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::factors::{FactorStore, Record};
use crate::noise::{noise_edge, rounding_noise};
use crate::plan::{Action, Pair, Plan, plan, role_name};
use crate::rank::{RankRule, Spectrum, rank_for_energy, snap, spread_budget};
use crate::report::{ModuleReport, Report, Stated, Totals};
use crate::stream::{delta_energy, extra_rows_energy, input, weight_energy};

/// What happens while an extraction runs; the caller may stop it at any of these.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The plan is made.
    Planned {
        /// Tensors to be read in pairs.
        pairs: usize,
        /// Elements in all pairs: the unit of progress.
        elements: u64,
        /// Elements whose work an interrupted run had finished.
        resumed: u64,
    },
    /// A module is begun.
    Begin {
        /// Its path.
        module: &'a str,
        /// Its elements.
        elements: u64,
    },
    /// Part of the current module is done.
    Step {
        /// Share of the module in [0, 1], estimated.
        share: f64,
    },
    /// A module is factorized and on disk.
    Done {
        /// Its measurements; the rank may still change where a budget rules.
        report: &'a ModuleReport,
        /// Its elements.
        elements: u64,
    },
    /// A tensor that is not in the adapter was measured.
    Measured {
        /// Its elements.
        elements: u64,
    },
}

/// What an extraction leaves beside the adapter.
#[derive(Debug)]
pub struct Extraction {
    /// `report.json`.
    pub report: Report,
    /// Every tensor that was read, with its digest.
    pub inputs: Vec<Input>,
}

/// Extracts ΔW = W_tuned − W_base of every linear layer as a LoRA adapter into `out`.
///
/// The adapter's files are written into the open output directory; the caller adds the report and
/// commits. Every module's factors are on disk as soon as they are computed, so a run that is
/// stopped goes on where it was. Memory is that of the largest pair of matrices and their panels.
///
/// # Errors
/// Checkpoints that do not belong together, broken weights, a rank rule without meaning, more
/// energy dropped than allowed, or a full disk. [`Error::Interrupted`] when `on_event` breaks.
pub fn extract(
    base: &Checkpoint,
    tuned: &Checkpoint,
    config: &Config,
    out: &OutputDir,
    on_event: &dyn Fn(Event<'_>) -> ControlFlow<()>,
) -> Result<Extraction> {
    config.validate()?;
    let Plan {
        pairs,
        lone_tuned,
        mut findings,
    } = plan(base, tuned, config.rules)?;
    let job = Job {
        base,
        tuned,
        config,
        store: FactorStore::open(out.path())?,
        on_event,
    };
    let (mut records, mut ledger, mut inputs) = job.run(&pairs)?;
    for weight in lone_tuned {
        let energy = weight_energy(tuned, weight)?;
        if energy > 0.0 {
            ledger.drop(weight.tensor.clone(), Reason::NotAdaptable, Some(energy));
        }
    }
    if records.iter().all(|r| r.norm2 == 0.0) {
        return Err(Error::NoDelta {
            base: base.dir().to_owned(),
            tuned: tuned.dir().to_owned(),
        });
    }
    choose_ranks(&mut records, config, &mut findings)?;
    findings.extend(ledger.findings(config.rules.policy, config.max_dropped));
    if ledger.dropped_share() > config.max_dropped {
        return Err(Error::TooMuchDropped {
            share: 100.0 * ledger.dropped_share(),
            limit: 100.0 * config.max_dropped,
            findings,
        });
    }
    write_adapter(&job.store, &records, &pairs, (base, tuned), config, out)?;
    job.store.remove()?;
    inputs.extend(records.iter().flat_map(|r| r.inputs.clone()));
    let modules: Vec<ModuleReport> = records.into_iter().map(|r| r.report).collect();
    let report = Report {
        schema: "xgraft.extract-report/1".into(),
        totals: Totals::of(&modules, ledger.dropped_share()),
        modules,
        dropped: ledger.dropped(),
        findings,
    };
    Ok(Extraction { report, inputs })
}

/// What makes earlier work of an interrupted run usable: the same configuration over the same files.
#[must_use]
pub fn fingerprint(base: &Checkpoint, tuned: &Checkpoint, config: &Config) -> Value {
    json!({
        "verb": "extract",
        "version": env!("CARGO_PKG_VERSION"),
        "config": config.fingerprint(),
        "base": base.identity_json(),
        "tuned": tuned.identity_json(),
    })
}

struct Job<'a> {
    base: &'a Checkpoint,
    tuned: &'a Checkpoint,
    config: &'a Config,
    store: FactorStore,
    on_event: &'a dyn Fn(Event<'_>) -> ControlFlow<()>,
}

impl Job<'_> {
    fn run(&self, pairs: &[Pair<'_>]) -> Result<(Vec<Record>, Ledger, Vec<Input>)> {
        let mut finished = Vec::new();
        for pair in pairs {
            finished.push(match pair.action {
                Action::Factorize => self.store.load(&pair.module)?,
                _ => None,
            });
        }
        self.tell(Event::Planned {
            pairs: pairs.len(),
            elements: pairs.iter().map(Pair::elements).sum(),
            resumed: pairs
                .iter()
                .zip(&finished)
                .filter(|(_, record)| record.is_some())
                .map(|(pair, _)| pair.elements())
                .sum(),
        })?;
        let mut records = Vec::new();
        let mut ledger = Ledger::default();
        let mut inputs = Vec::new();
        for (pair, record) in pairs.iter().zip(finished) {
            match pair.action {
                Action::Factorize => {
                    let record = match record {
                        Some(record) => record,
                        None => self.factorize(pair)?,
                    };
                    ledger.keep(record.norm2);
                    let extra = extra_rows_energy(self.tuned, pair)?;
                    if extra > 0.0 {
                        let rows = format!("{} (extra rows)", pair.tuned.tensor);
                        ledger.drop(rows, Reason::ExtraVocabulary, Some(extra));
                    }
                    records.push(record);
                }
                Action::Copy => {
                    let (energy, digests) = self.measure(pair)?;
                    ledger.keep(energy);
                    inputs.extend(digests);
                }
                Action::Drop(reason) => {
                    let (energy, digests) = self.measure(pair)?;
                    if energy > 0.0 {
                        ledger.drop(pair.tuned.tensor.clone(), reason, Some(energy));
                    }
                    inputs.extend(digests);
                }
            }
        }
        Ok((records, ledger, inputs))
    }

    fn tell(&self, event: Event<'_>) -> Result<()> {
        match (self.on_event)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }

    fn measure(&self, pair: &Pair<'_>) -> Result<(f64, Vec<Input>)> {
        let (energy, digests) = delta_energy(self.base, self.tuned, pair)?;
        self.tell(Event::Measured {
            elements: pair.elements(),
        })?;
        Ok((energy, digests))
    }

    fn factorize(&self, pair: &Pair<'_>) -> Result<Record> {
        self.tell(Event::Begin {
            module: &pair.module,
            elements: pair.elements(),
        })?;
        let start = Instant::now();
        let (tuned, base) =
            rayon::join(|| self.tuned.load(pair.tuned), || self.base.load(pair.base));
        let ((tuned, tuned_digest), (base, base_digest)) = (tuned?, base?);
        let delta = Delta::new(&tuned, &base);
        if self.config.rank == RankRule::Noise && pair.tuned.is_quantized() {
            return Err(Error::InvalidConfig {
                field: "noise-edge",
                expected: "a tuned checkpoint in BF16, F16 or F32, whose rounding noise is known",
                found: format!("quantized {}", pair.tuned.tensor),
            });
        }
        let edge = rounding_noise(&tuned).map(|s| noise_edge(s, delta.rows(), delta.cols()));
        let factors = truncated_svd(&delta, &self.svd_config(&delta, edge), &|progress| {
            (self.on_event)(Event::Step {
                share: (progress.products as f64 / progress.expected.max(1) as f64).min(1.0),
            })
        })
        .map_err(|source| match source {
            xgraft_low_rank::Error::Interrupted => Error::Interrupted,
            source => Error::LowRank {
                module: pair.module.clone(),
                source,
            },
        })?;
        let cap = factors.rank();
        let base_norm = squared_norm(&base).sqrt();
        let delta_norm = factors.norm2.sqrt();
        let record = Record {
            report: ModuleReport {
                module: pair.module.clone(),
                role: role_name(pair.tuned.role).to_owned(),
                shape: [delta.rows(), delta.cols()],
                delta_norm,
                base_norm,
                delta_ratio: if base_norm > 0.0 {
                    delta_norm / base_norm
                } else {
                    0.0
                },
                rank: 0,
                energy_kept: 0.0,
                residual: 0.0,
                excess: None,
                noise_edge: edge,
                above_noise: edge
                    .map(|e| factors.singular_values.iter().filter(|s| **s > e).count()),
                singular_values: factors.singular_values.clone(),
                bytes: 0,
                seconds: start.elapsed().as_secs_f64(),
                basis: factors.basis,
            },
            cap,
            norm2: factors.norm2,
            rounding: Vec::new(),
            excess: excess_table(&factors, cap),
            digest: String::new(),
            inputs: vec![
                input("base", self.base, pair.base, &base_digest)?,
                input("tuned", self.tuned, pair.tuned, &tuned_digest)?,
            ],
        };
        let record = self.store.save(&factors, self.config.dtype, record)?;
        self.tell(Event::Done {
            report: &record.report,
            elements: pair.elements(),
        })?;
        Ok(record)
    }

    fn svd_config(&self, delta: &Delta<'_>, edge: Option<f64>) -> SvdConfig {
        let cap = self.config.cap(delta.rows(), delta.cols());
        let stop = match (self.config.rank, edge) {
            (RankRule::Energy(share), _) => Stop::Energy { share, cap },
            (RankRule::Noise, Some(sigma)) => Stop::Edge { sigma, cap },
            _ => Stop::Rank(cap),
        };
        let mut svd = SvdConfig {
            stop,
            seed: self.config.seed,
            steps: &VLLM_RANKS,
            ..SvdConfig::default()
        };
        if let Some(tolerance) = self.config.tolerance {
            svd.tolerance = tolerance;
        }
        svd
    }
}

/// What the factorization says of its optimum at every rank that a rule can end at.
fn excess_table(factors: &xgraft_low_rank::Factors, cap: usize) -> Vec<(usize, Stated)> {
    let mut ranks: Vec<usize> = VLLM_RANKS.into_iter().filter(|&r| r < cap).collect();
    ranks.push(cap);
    ranks
        .into_iter()
        .filter(|&r| r > 0)
        .map(|r| (r, factors.optimum(r).into()))
        .collect()
}

fn choose_ranks(
    records: &mut [Record],
    config: &Config,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let element = config.dtype.bytes() as u64;
    let ranks: Vec<usize> = match config.rank {
        RankRule::Fixed(_) => records.iter().map(|r| r.cap).collect(),
        RankRule::Energy(share) => records
            .iter()
            .map(|r| {
                let rank = rank_for_energy(&r.report.singular_values, r.norm2, share);
                snap(rank.unwrap_or(r.cap), r.cap)
            })
            .collect(),
        RankRule::Noise => records
            .iter()
            .map(|r| snap(r.report.above_noise.unwrap_or(r.cap), r.cap))
            .collect(),
        RankRule::Budget(budget) => budget_ranks(records, budget, element)?,
    };
    for (record, rank) in records.iter_mut().zip(ranks) {
        record.choose(rank, element);
    }
    rank_findings(records, config, findings);
    Ok(())
}

fn budget_ranks(records: &[Record], budget: u64, element: u64) -> Result<Vec<usize>> {
    let spectra: Vec<Spectrum> = records
        .iter()
        .map(|r| Spectrum {
            singular_values: r.report.singular_values.clone(),
            bytes_per_rank: (r.report.shape[0] + r.report.shape[1]) as u64 * element,
        })
        .collect();
    let ranks = spread_budget(&spectra, budget);
    if ranks.iter().all(|&r| r == 0) {
        let cheapest = spectra.iter().map(|s| s.bytes_per_rank).min().unwrap_or(0);
        return Err(Error::BudgetTooSmall { budget, cheapest });
    }
    Ok(ranks)
}

/// What a person should know of the chosen ranks.
fn rank_findings(records: &[Record], config: &Config, findings: &mut Vec<Finding>) {
    let info = |code, subject: &str, message| Finding::new(Severity::Info, code, subject, message);
    if let RankRule::Fixed(rank) = config.rank {
        let clamped: Vec<&Record> = records
            .iter()
            .filter(|r| r.report.shape[0].min(r.report.shape[1]) < rank)
            .collect();
        if let Some(first) = clamped.first() {
            let [rows, cols] = first.report.shape;
            findings.push(info(
                "rank-clamped",
                &first.report.module,
                format!(
                    "rank {rank} exceeds min(out, in) of {} modules, {} ({rows}×{cols}) the first; they get what they have",
                    clamped.len(),
                    first.report.module,
                ),
            ));
        }
    }
    let empty: Vec<&Record> = records.iter().filter(|r| r.report.rank == 0).collect();
    if let Some(first) = empty.first() {
        let total: f64 = records.iter().map(|r| r.norm2).sum();
        let lost: f64 = empty.iter().map(|r| r.norm2).sum();
        let share = lost / total.max(f64::MIN_POSITIVE);
        findings.push(
            Finding::new(
                if share > 0.0 { Severity::Warning } else { Severity::Info },
                "rank-zero",
                &first.report.module,
                format!(
                    "{} modules are not in the adapter, {} the first; they hold {:.2} % of the energy of the linear layers",
                    empty.len(),
                    first.report.module,
                    100.0 * share
                ),
            )
            .value(share),
        );
    }
    if let RankRule::Energy(share) = config.rank {
        let short: Vec<&Record> = records
            .iter()
            .filter(|r| r.report.energy_kept < share && r.report.rank == config.max_rank)
            .collect();
        if let Some(first) = short.first() {
            findings.push(
                Finding::new(
                    Severity::Warning,
                    "energy-not-reached",
                    &first.report.module,
                    format!(
                        "{} modules keep less than {share} of their energy at the largest rank {}",
                        short.len(),
                        config.max_rank
                    ),
                )
                .hint("their deltas are too flat for a LoRA of this size"),
            );
        }
    }
    if config.rank == RankRule::Noise {
        let full = |r: &&Record| {
            let [rows, cols] = r.report.shape;
            r.report.above_noise.is_some_and(|above| above >= r.cap) && r.cap < rows.min(cols)
        };
        let capped: Vec<&Record> = records.iter().filter(full).collect();
        if let Some(first) = capped.first() {
            findings.push(
                Finding::new(
                    Severity::Warning,
                    "noise-edge-not-reached",
                    &first.report.module,
                    format!(
                        "{} modules still stand out of the noise at the largest rank {}, {} the first",
                        capped.len(),
                        config.max_rank,
                        first.report.module,
                    ),
                )
                .hint("raise --max-rank to keep all that is signal"),
            );
        }
    }
    let max = records.iter().map(|r| r.report.rank).max().unwrap_or(0);
    match ladder_up(max) {
        Some(step) if step != max => findings.push(info(
            "rank-between-steps",
            "adapter",
            format!("rank {max} is served as --max-lora-rank {step}; a rank of {step} costs the same memory"),
        )),
        Some(_) => {}
        None => findings.push(
            Finding::new(
                Severity::Warning,
                "rank-above-ladder",
                "adapter",
                format!("rank {max} is above 512, the largest that vLLM serves"),
            )
            .hint("extract at rank 512 or less for vLLM"),
        ),
    }
}
