//! What an autopsy tells: `report.json`, its rows and its findings.

use serde::Serialize;
use xgraft_results::{Finding, Row};

use crate::scan::Scan;
use crate::thresholds::Group;
use crate::verdict::{Fault, Verdict};

/// The statistics of the finite numbers of a tensor, and counts of the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Numbers of every kind.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Mean fourth power of (x − mean)/std: 3 for normal numbers; `None` where they do not vary.
    pub kurtosis: Option<f64>,
    /// Share of zeros.
    pub zero_share: f64,
    /// How many are NaN.
    pub nan: u64,
    /// How many are infinite.
    pub infinite: u64,
    /// Share of codes at the ends of their format: the largest magnitude of FP8, the first and the last integer or level of
    /// others, where every group has one or two. `None` where there are no codes.
    pub saturated_share: Option<f64>,
    /// Scales that are zero, negative or not finite; `None` where there are no scales.
    pub bad_scales: Option<u64>,
}

/// A tensor against its reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Pearson's; `None` when one side does not vary.
    pub correlation: Option<f64>,
    /// ‖x − reference‖/‖reference‖; `None` when the reference is zero.
    pub relative_error: Option<f64>,
    /// −20·log10 of the relative error, in dB; `None` when the two are equal.
    pub snr_db: Option<f64>,
    /// The factor g for which g · reference is nearest, up to a shift.
    pub gain: Option<f64>,
    /// The largest relative error of a block.
    pub worst_block_error: Option<f64>,
}

/// What is known of one weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorReport {
    /// The tensor that holds its values or codes.
    pub tensor: String,
    /// The module that owns it.
    pub module: String,
    /// Whose limits it is held to.
    pub role: Group,
    /// How it is stored: `BF16`, `F8_E4M3 128x128`.
    pub stored: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The worst of its faults, or healthy.
    pub verdict: Verdict,
    /// What is wrong with it, worst first.
    pub faults: Vec<Fault>,
    /// Statistics of its numbers; `None` where they could not be decoded.
    pub stats: Option<Stats>,
    /// Against the reference, if there is one.
    pub reference: Option<Comparison>,
    /// Blocks of at most 128 × 128 numbers.
    pub blocks: u64,
}

/// The tensors of one role.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoleSummary {
    /// The role.
    pub role: Group,
    /// How many tensors have it.
    pub tensors: usize,
    /// How many of them are not healthy.
    pub sick: usize,
    /// Least and largest standard deviation.
    pub std: [f64; 2],
    /// Largest magnitude.
    pub abs_max: f64,
    /// Largest kurtosis.
    pub kurtosis_max: Option<f64>,
    /// Largest relative error against the reference.
    pub relative_error_max: Option<f64>,
}

/// The whole of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `xgraft.autopsy-report/1`.
    pub schema: String,
    /// Whether every tensor is.
    pub healthy: bool,
    /// Every weight, in model order.
    pub tensors: Vec<TensorReport>,
    /// The same by role.
    pub roles: Vec<RoleSummary>,
    /// Tensors of integers, which are not looked at.
    pub skipped: Vec<String>,
    /// The limits in force: role → field → value; `null` is no limit.
    pub thresholds: serde_json::Value,
    /// One finding for each sick tensor, and what does not fit to the reference.
    pub findings: Vec<Finding>,
    /// Bytes that were read.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Stats {
    pub(crate) fn of(scan: &Scan, codes: bool, bad_scales: Option<u64>) -> Self {
        let m = &scan.total.moments;
        let share = |part: u64| part as f64 / m.count().max(1) as f64;
        let finite = |x: f32| if m.n > 0 { f64::from(x) } else { 0.0 };
        Self {
            count: m.count(),
            mean: m.mean(),
            std: m.variance().sqrt(),
            min: finite(m.min),
            max: finite(m.max),
            kurtosis: m.kurtosis(),
            zero_share: share(m.zeros),
            nan: m.nan,
            infinite: m.infinite,
            saturated_share: codes.then(|| share(scan.total.saturated)),
            bad_scales,
        }
    }

    /// The largest magnitude.
    #[must_use]
    pub fn abs_max(&self) -> f64 {
        self.max.abs().max(self.min.abs())
    }
}

impl Comparison {
    pub(crate) fn of(scan: &Scan) -> Self {
        let pairs = &scan.total.pairs;
        let relative_error = pairs.relative_error();
        Self {
            correlation: pairs.correlation(),
            relative_error,
            snr_db: relative_error
                .filter(|e| *e > 0.0)
                .map(|e| -20.0 * e.log10()),
            gain: pairs.gain(),
            worst_block_error: scan
                .blocks
                .iter()
                .filter_map(|b| b.pairs.relative_error())
                .max_by(f64::total_cmp),
        }
    }
}

impl TensorReport {
    /// One line on what is wrong, with what to do; `None` for a healthy tensor.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let fault = self.faults.first()?;
        let more = match self.faults.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more in the report)"),
        };
        let finding = Finding::error(
            self.verdict.name(),
            &self.tensor,
            format!("{}{more}", fault.message),
        );
        let finding = match fault.hint() {
            Some(hint) => finding.hint(hint),
            None => finding,
        };
        Some(match fault.measured.is_finite() {
            true => finding.value(fault.measured),
            false => finding,
        })
    }
}

impl Report {
    /// The measurements as rows, of the finite ones.
    #[must_use]
    pub fn rows(&self, arm: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for t in &self.tensors {
            let mut push = |metric: &str, value: Option<f64>, unit: Option<&str>| {
                let Some(value) = value.filter(|v| v.is_finite()) else {
                    return;
                };
                let row = Row::new(metric, value)
                    .arm(arm)
                    .module(&t.module)
                    .source("autopsy");
                rows.push(match unit {
                    Some(unit) => row.unit(unit),
                    None => row,
                });
            };
            push("sick", Some(f64::from(t.verdict != Verdict::Healthy)), None);
            if let Some(s) = &t.stats {
                push("weight_mean", Some(s.mean), None);
                push("weight_std", Some(s.std), None);
                push("weight_min", Some(s.min), None);
                push("weight_max", Some(s.max), None);
                push("weight_abs_max", Some(s.abs_max()), None);
                push("weight_kurtosis", s.kurtosis, None);
                push("zero_share", Some(s.zero_share), None);
                push("nan_count", Some(s.nan as f64), None);
                push("infinite_count", Some(s.infinite as f64), None);
                push("saturated_share", s.saturated_share, None);
            }
            if let Some(r) = &t.reference {
                push("correlation", r.correlation, None);
                push("relative_error", r.relative_error, None);
                push("snr", r.snr_db, Some("dB"));
            }
        }
        rows
    }
}

/// One summary for each role that occurs, in the order of the table of limits.
pub(crate) fn by_role(tensors: &[TensorReport]) -> Vec<RoleSummary> {
    Group::ALL
        .into_iter()
        .filter_map(|role| {
            let of: Vec<&TensorReport> = tensors.iter().filter(|t| t.role == role).collect();
            if of.is_empty() {
                return None;
            }
            let stats = || of.iter().filter_map(|t| t.stats.as_ref());
            let std = || stats().map(|s| s.std).filter(|s| s.is_finite());
            Some(RoleSummary {
                role,
                tensors: of.len(),
                sick: of.iter().filter(|t| t.verdict != Verdict::Healthy).count(),
                std: [
                    std().min_by(f64::total_cmp).unwrap_or(0.0),
                    std().max_by(f64::total_cmp).unwrap_or(0.0),
                ],
                abs_max: stats().map(Stats::abs_max).fold(0.0, f64::max),
                kurtosis_max: stats().filter_map(|s| s.kurtosis).max_by(f64::total_cmp),
                relative_error_max: of
                    .iter()
                    .filter_map(|t| t.reference.as_ref()?.relative_error)
                    .max_by(f64::total_cmp),
            })
        })
        .collect()
}
