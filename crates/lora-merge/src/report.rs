//! What a merge tells of itself.

use serde::{Deserialize, Serialize};
use xgraft_results::Row;

/// One merged weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// Module path.
    pub module: String,
    /// Rank of the pair; none where the adapter holds the weight whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// ‖ΔW‖, Frobenius, with ΔW = s·B·A, or new minus old of a weight that is replaced.
    pub update_norm: f64,
    /// ‖W + ΔW‖.
    pub merged_norm: f64,
    /// ‖stored − (W + ΔW)‖/‖ΔW‖: how much of the update the rounding to the stored format
    /// costs. Above 1 the format cannot hold the update.
    pub rounding: f64,
}

/// The whole of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `xgraft.merge-report/1`.
    pub schema: String,
    /// Merged weights, in model order.
    pub modules: Vec<ModuleReport>,
    /// Tensor bytes written.
    pub bytes_out: u64,
}

impl Report {
    /// The measurements as rows.
    #[must_use]
    pub fn rows(&self, arm: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for m in &self.modules {
            for (metric, value) in [
                ("update_norm", m.update_norm),
                ("merge_rounding", m.rounding),
            ] {
                rows.push(
                    Row::new(metric, value)
                        .arm(arm)
                        .module(&m.module)
                        .source("merge"),
                );
            }
        }
        rows
    }
}
