//! What an extraction tells of itself: `report.json` and its rows.

use serde::{Deserialize, Serialize};
use xgraft_adapter_sanitize::Dropped;
use xgraft_low_rank::Excess;
use xgraft_results::{Finding, Row};

/// How far the residual is from the best possible one of that rank, relative to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stated {
    /// Proved: the excess is at most this.
    Certified(f64),
    /// From the convergence of the last blocks: the excess is about this.
    Estimated(f64),
}

impl Stated {
    /// The figure, certified or not.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Certified(x) | Self::Estimated(x) => x,
        }
    }

    /// `certified` or `estimated`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Certified(_) => "certified",
            Self::Estimated(_) => "estimated",
        }
    }
}

impl Stated {
    /// The excess of factors whose squared residual `exact2` grows by `rounding` when they are
    /// stored; `None` where the residual is so small that a ratio to the optimum says nothing.
    #[must_use]
    pub fn with_rounding(self, exact2: f64, rounding: f64, norm2: f64) -> Option<Self> {
        /// Share of ‖ΔW‖² below which a residual is rounding.
        const NOTHING: f64 = 1e-9;
        if exact2 <= NOTHING * norm2 {
            return None;
        }
        let factor = (1.0 + rounding / exact2).sqrt();
        let grown = (1.0 + self.value()) * factor - 1.0;
        Some(match self {
            Self::Certified(_) if rounding == 0.0 => Self::Certified(grown),
            _ => Self::Estimated(grown),
        })
    }
}

impl From<Excess> for Stated {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::Certified { at_most } => Self::Certified(at_most),
            Excess::Estimated { about } => Self::Estimated(about),
        }
    }
}

/// One module's extraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// Module path.
    pub module: String,
    /// Role, for grouping: `q`, `gate`, `embedding`, …
    pub role: String,
    /// [out, in] of the delta.
    pub shape: [usize; 2],
    /// ‖ΔW‖, Frobenius.
    pub delta_norm: f64,
    /// ‖W_base‖.
    pub base_norm: f64,
    /// ‖ΔW‖/‖W_base‖.
    pub delta_ratio: f64,
    /// Rank in the adapter; 0 means that the module is not in it.
    pub rank: usize,
    /// Share of ‖ΔW‖² that the rank keeps.
    pub energy_kept: f64,
    /// ‖ΔW − BA‖/‖ΔW‖ of the stored factors: exact before they are rounded to their dtype, and the
    /// rounding added as it is.
    pub residual: f64,
    /// How far that is from the optimum; `None` where the optimum is next to nothing.
    pub excess: Option<Stated>,
    /// Largest singular value that the tuned checkpoint's rounding noise can reach.
    pub noise_edge: Option<f64>,
    /// How many of the computed singular values lie above that edge.
    pub above_noise: Option<usize>,
    /// Computed singular values, descending.
    pub singular_values: Vec<f64>,
    /// Bytes of the pair in the adapter.
    pub bytes: u64,
    /// Wall time of the factorization with reading.
    pub seconds: f64,
    /// Columns of the Krylov basis.
    pub basis: usize,
}

/// The whole of `report.json`. Times and hosts belong here, not in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `xgraft.extract-report/1`.
    pub schema: String,
    /// Modules in model order.
    pub modules: Vec<ModuleReport>,
    /// Sum over the modules of the adapter.
    pub totals: Totals,
    /// Tensors that are not in the adapter, by energy.
    pub dropped: Vec<Dropped>,
    /// Everything a person should know.
    pub findings: Vec<Finding>,
}

/// Sums and extremes over modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Modules in the adapter.
    pub modules: usize,
    /// ‖ΔW‖/‖W_base‖ over all linears.
    pub delta_ratio: f64,
    /// Share of the linears' energy that the ranks keep.
    pub energy_kept: f64,
    /// ‖ΔW − BA‖/‖ΔW‖ over all linears.
    pub residual: f64,
    /// The worst stated excess of a module.
    pub worst_excess: Option<Stated>,
    /// Largest rank: what the server's `max_lora_rank` must hold.
    pub max_rank: usize,
    /// Share of the whole update's energy (with norms and embeddings) that is dropped.
    pub dropped_share: f64,
    /// Bytes of adapter tensors.
    pub adapter_bytes: u64,
    /// Seconds of work over all runs that made this output.
    pub seconds: f64,
}

impl Totals {
    /// Sums the modules.
    #[must_use]
    pub fn of(modules: &[ModuleReport], dropped_share: f64) -> Self {
        let sum = |f: &dyn Fn(&ModuleReport) -> f64| modules.iter().map(f).sum::<f64>();
        let delta2 = sum(&|m| m.delta_norm.powi(2));
        let base2 = sum(&|m| m.base_norm.powi(2));
        let kept2 = sum(&|m| m.energy_kept * m.delta_norm.powi(2));
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        Self {
            modules: modules.iter().filter(|m| m.rank > 0).count(),
            delta_ratio: ratio(delta2, base2).sqrt(),
            energy_kept: ratio(kept2, delta2),
            residual: ratio(sum(&|m| (m.residual * m.delta_norm).powi(2)), delta2).sqrt(),
            worst_excess: modules
                .iter()
                .filter_map(|m| m.excess)
                .max_by(|a, b| a.value().total_cmp(&b.value())),
            max_rank: modules.iter().map(|m| m.rank).max().unwrap_or(0),
            dropped_share,
            adapter_bytes: modules.iter().map(|m| m.bytes).sum(),
            seconds: sum(&|m| m.seconds),
        }
    }
}

impl Report {
    /// The measurements as rows, for plots and reports.
    #[must_use]
    pub fn rows(&self, arm: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for m in &self.modules {
            let mut push = |metric: &str, value: f64, unit: &str| {
                rows.push(
                    Row::new(metric, value)
                        .unit(unit)
                        .arm(arm)
                        .module(&m.module)
                        .source("extract"),
                );
            };
            push("delta_norm", m.delta_norm, "frobenius");
            push("delta_ratio", m.delta_ratio, "1");
            push("energy_kept", m.energy_kept, "1");
            push("residual", m.residual, "1");
            if let Some(excess) = m.excess {
                let metric = match excess {
                    Stated::Certified(_) => "excess_certified",
                    Stated::Estimated(_) => "excess_estimated",
                };
                push(metric, excess.value(), "1");
            }
            push("rank", m.rank as f64, "1");
            push("adapter_bytes", m.bytes as f64, "byte");
            push("seconds", m.seconds, "s");
            let points = energy_at_ranks(&m.singular_values, m.delta_norm);
            rows.extend(points.into_iter().map(|(rank, energy)| {
                Row::new("energy_at_rank", energy)
                    .unit("1")
                    .n(rank as u64)
                    .arm(arm)
                    .module(&m.module)
                    .source("extract")
            }));
        }
        rows
    }
}

/// Share of ‖ΔW‖² in the first r computed singular values, for r = 1, 2, 4, … and all of them: what the best pair of that rank
/// keeps, before its factors are rounded to their dtype.
fn energy_at_ranks(singular_values: &[f64], delta_norm: f64) -> Vec<(usize, f64)> {
    let norm2 = delta_norm * delta_norm;
    let (all, mut kept) = (singular_values.len(), 0.0);
    let mut points = Vec::new();
    for (at, value) in singular_values.iter().enumerate() {
        kept += value * value;
        let rank = at + 1;
        if norm2 > 0.0 && (rank.is_power_of_two() || rank == all) {
            points.push((rank, (kept / norm2).min(1.0)));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_given_at_powers_of_two_and_at_the_last_rank() {
        let points = energy_at_ranks(&[3.0, 2.0, 1.0, 1.0, 0.5], 4.0);
        let expected = [(1, 9.0), (2, 13.0), (4, 15.0), (5, 15.25)];
        assert_eq!(points, expected.map(|(rank, kept)| (rank, kept / 16.0)));
        assert!(energy_at_ranks(&[0.0], 0.0).is_empty());
    }
}
