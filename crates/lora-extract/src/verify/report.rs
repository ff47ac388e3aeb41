//! What a check says of an adapter.

use serde::{Deserialize, Serialize};
use xgraft_adapter_sanitize::{Dropped, WARN_SHARE};
use xgraft_results::{Finding, Row, Severity};

use super::{Direction, VerifyConfig};

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

/// What a pair's direction is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgedBy {
    /// W_tuned − W_base, what the pair has to bridge.
    Delta,
    /// W_tuned − W_original, where the original base is given and the pair is nearer to that: it was extracted before the
    /// base was quantized, and the noise in W_tuned − W_base is none of its business.
    FineTune,
}

impl JudgedBy {
    /// As a formula.
    #[must_use]
    pub fn formula(self) -> &'static str {
        match self {
            Self::Delta => "tuned − base",
            Self::FineTune => "tuned − original",
        }
    }
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
    /// How sBA lies to D.
    #[serde(flatten)]
    pub direction: Direction,
    /// What the original base says of the quantized one and of the served weights; where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_original: Option<AgainstOriginal>,
    /// The difference that the pair's direction is judged by.
    pub judged_by: JudgedBy,
    /// The verdict.
    pub verdict: Verdict,
}

impl ModuleCheck {
    /// How the pair lies to the difference that it is judged by.
    #[must_use]
    pub fn judged(&self) -> Direction {
        match (self.judged_by, &self.against_original) {
            (JudgedBy::FineTune, Some(original)) => original.adapter,
            _ => self.direction,
        }
    }
}

/// Served weights, base + adapter, against the base before it was quantized, W_original.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AgainstOriginal {
    /// ‖W_base − W_original‖/‖W_tuned − W_original‖: quantization noise over the fine-tune.
    pub noise_ratio: f64,
    /// How sBA lies to the fine-tune, W_tuned − W_original.
    pub adapter: Direction,
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
            push("projection", m.direction.projection);
            push("adapter_delta_cosine", m.direction.cosine);
            push("adapter_delta_z", m.direction.z);
            if let Some(optimum) = m.optimum {
                push("optimum", optimum);
            }
            if let Some(original) = m.against_original {
                push("noise_ratio", original.noise_ratio);
                push("adapter_fine_tune_projection", original.adapter.projection);
                push("adapter_fine_tune_cosine", original.adapter.cosine);
                push("adapter_fine_tune_z", original.adapter.z);
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

/// What a person should know of a check.
pub(super) fn findings(report: &Verification, config: &VerifyConfig) -> Vec<Finding> {
    let mut findings: Vec<Finding> = report
        .modules
        .iter()
        .filter(|m| m.verdict != Verdict::Ok)
        .map(|m| Finding::new(Severity::Error, "bad-module", &m.module, explain(m)))
        .collect();
    if report.uncovered_share > WARN_SHARE {
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
    let Direction {
        projection: p,
        tolerance,
        z,
        ..
    } = m.judged();
    let of = m.judged_by.formula();
    match m.verdict {
        Verdict::Ok => "ok".into(),
        Verdict::Unrelated => format!(
            "the pair is unrelated to {of} (projection {p:.3}, expected 1; {z:+.1} standard deviations of chance): modules swapped, another fine-tune, or a base whose noise hides it{}",
            if m.against_original.is_some() {
                ""
            } else {
                " (--original tells)"
            }
        ),
        Verdict::FlippedSign => {
            format!("the pair lies against {of} (projection {p:.3}, expected 1): flipped sign")
        }
        Verdict::WrongScale => format!(
            "the pair has the wrong scale (projection of {of} {p:.3}, expected 1 ± {tolerance:.3}): it should be {p:.3} times as large; check lora_alpha and r"
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
