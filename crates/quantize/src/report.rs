//! What a conversion tells of itself.

use serde::{Deserialize, Serialize};
use xgraft_checkpoint::Rewritten;
use xgraft_results::{Finding, Input, Row};

use crate::search::DeltaSums;

/// What is known of one converted weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// Module path.
    pub module: String,
    /// [out, in].
    pub shape: [usize; 2],
    /// ‖decoded − original‖/‖original‖, Frobenius: what the round trip through the format costs. Of a bridge the same of its
    /// rounding to BF16 ([`ErrorOf`]).
    pub relative_error: f64,
    /// ‖decoded − original‖².
    pub error2: f64,
    /// ‖original‖².
    pub norm2: f64,
    /// Largest absolute error of an element.
    pub max_abs_error: f64,
    /// Elements that were clamped to the largest value of the format.
    pub saturated: u64,
    /// What is left of the fine-tune; where the base is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<DeltaSums>,
    /// Bytes in the source.
    pub bytes_in: u64,
    /// Bytes written: codes and scales.
    pub bytes_out: u64,
}

/// Which rounding the errors of a report are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorOf {
    /// Of the model's weights to the format.
    #[default]
    Quantization,
    /// Of the decoded values to BF16: a bridge's, and not what the quantization took before.
    Bf16,
}

impl ErrorOf {
    /// As a person reads it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Quantization => "quantization error",
            Self::Bf16 => "rounding of the decoded values to BF16",
        }
    }

    /// The verb, the metric of a module, and that of the whole.
    fn metrics(self) -> [&'static str; 3] {
        match self {
            Self::Quantization => ["quantize", "quantization_error", "total_relative_error"],
            Self::Bf16 => ["dequantize", "bf16_rounding", "total_bf16_rounding"],
        }
    }
}

/// The whole of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `xgraft.quantize-report/1`.
    pub schema: String,
    /// Converted weights, in model order.
    pub modules: Vec<ModuleReport>,
    /// What the errors are of.
    #[serde(default)]
    pub error_of: ErrorOf,
    /// ‖decoded − original‖/‖original‖ over all of them; of a bridge ‖bridge − decoded‖/‖decoded‖.
    pub relative_error: f64,
    /// The formats that were simulated on these weights, here or before, first to last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub simulated: Vec<String>,
    /// Tensor bytes of the source.
    pub bytes_in: u64,
    /// Tensor bytes written.
    pub bytes_out: u64,
    /// What a reader of the result should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl Report {
    fn of(done: &[Rewritten<ModuleReport>], error_of: ErrorOf) -> Self {
        let modules: Vec<ModuleReport> = done.iter().filter_map(|d| d.note.clone()).collect();
        let sum = |f: &dyn Fn(&ModuleReport) -> f64| modules.iter().map(f).sum::<f64>();
        let (error2, norm2) = (sum(&|m| m.error2), sum(&|m| m.norm2));
        Self {
            schema: "xgraft.quantize-report/1".into(),
            error_of,
            simulated: Vec::new(),
            relative_error: if norm2 > 0.0 {
                (error2 / norm2).sqrt()
            } else {
                0.0
            },
            bytes_in: done.iter().map(|d| d.bytes_in).sum(),
            bytes_out: done.iter().map(|d| d.bytes_out).sum(),
            modules,
            findings: Vec::new(),
        }
    }

    /// What is left of the fine-tune over all weights; where the base is known.
    #[must_use]
    pub fn delta(&self) -> Option<DeltaSums> {
        let mut all = DeltaSums::default();
        for module in &self.modules {
            all.merge(module.delta?);
        }
        Some(all)
    }

    /// ‖decoded − original‖/‖original − base‖: the noise over the fine-tune.
    fn noise_ratio(&self, delta: DeltaSums) -> f64 {
        let error2: f64 = self.modules.iter().map(|m| m.error2).sum();
        if delta.before2 > 0.0 {
            (error2 / delta.before2).sqrt()
        } else {
            0.0
        }
    }

    /// The measurements as rows.
    #[must_use]
    pub fn rows(&self, arm: &str) -> Vec<Row> {
        let [verb, of_module, of_all] = self.error_of.metrics();
        let mut rows = Vec::new();
        for m in &self.modules {
            let mut push = |metric: &str, value: f64, unit: Option<&str>| {
                let row = Row::new(metric, value)
                    .arm(arm)
                    .module(&m.module)
                    .source(verb);
                rows.push(match unit {
                    Some(unit) => row.unit(unit),
                    None => row,
                });
            };
            push(of_module, m.relative_error, None);
            push("weight_bytes", m.bytes_out as f64, Some("bytes"));
            if let Some(delta) = &m.delta {
                push("delta_cosine", delta.cosine(), None);
                push("delta_sign_agreement", delta.sign_agreement(), None);
            }
        }
        let delta = self.delta();
        for (metric, value) in [
            (of_all, Some(self.relative_error)),
            ("total_delta_cosine", delta.map(|d| d.cosine())),
            (
                "total_delta_sign_agreement",
                delta.map(|d| d.sign_agreement()),
            ),
            ("total_noise_ratio", delta.map(|d| self.noise_ratio(d))),
        ] {
            let row = value.map(|value| Row::new(metric, value).arm(arm).source(verb));
            rows.extend(row);
        }
        rows.push(
            Row::new("checkpoint_bytes", self.bytes_out as f64)
                .unit("bytes")
                .arm(arm)
                .source(verb),
        );
        rows
    }
}

/// A finished conversion.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// `report.json`.
    pub report: Report,
    /// Every weight that was read, with its digest.
    pub inputs: Vec<Input>,
}

impl Conversion {
    pub(crate) fn of(done: &[Rewritten<ModuleReport>], error_of: ErrorOf) -> Self {
        Self {
            report: Report::of(done, error_of),
            inputs: done
                .iter()
                .map(|d| Input {
                    role: "source".into(),
                    tensor: Some(d.tensor.clone()),
                    file: d.file.clone(),
                    blake3: d.blake3.clone(),
                    bytes: d.bytes_in,
                })
                .collect(),
        }
    }
}
