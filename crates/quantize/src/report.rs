//! What a conversion tells of itself.

use serde::{Deserialize, Serialize};
use xgraft_checkpoint::Rewritten;
use xgraft_results::{Finding, Input, Row};

use crate::awq::Scaled;
use crate::search::DeltaSums;

/// What is known of one converted weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// Module path.
    pub module: String,
    /// [out, in].
    pub shape: [usize; 2],
    /// What the round trip through the format costs; nothing of a weight that was only decoded, whose values are rounded to
    /// BF16 once.
    #[serde(flatten)]
    pub loss: Option<Loss>,
    /// What is left of the fine-tune; where the base is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<DeltaSums>,
    /// What it costs the layer's output; where activation statistics are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputError>,
    /// Bytes in the source.
    pub bytes_in: u64,
    /// Bytes written: codes and scales.
    pub bytes_out: u64,
}

/// What a weight has lost in a format, measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// ‖decoded − original‖/‖original‖, Frobenius.
    pub relative_error: f64,
    /// ‖decoded − original‖².
    pub error2: f64,
    /// ‖original‖².
    pub norm2: f64,
    /// Largest absolute error of an element.
    pub max_abs_error: f64,
    /// Elements that were clamped to the largest value of the format.
    pub saturated: u64,
}

/// The expected squared error of a layer's output for a token, and the output itself, if input channels were uncorrelated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputError {
    /// Σ E(xⱼ²)·(decoded − original)ᵢⱼ².
    pub error2: f64,
    /// Σ E(xⱼ²)·originalᵢⱼ².
    pub norm2: f64,
}

impl OutputError {
    /// The root of their ratio; 0 for an output of nothing.
    #[must_use]
    pub fn relative(&self) -> f64 {
        match self.norm2 > 0.0 {
            true => (self.error2 / self.norm2).sqrt(),
            false => 0.0,
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
    /// ‖decoded − original‖/‖original‖ over all of them; nothing of weights that were only decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_error: Option<f64>,
    /// The formats that were simulated on these weights, here or before, first to last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub simulated: Vec<String>,
    /// What AWQ has scaled, in model order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaled: Vec<Scaled>,
    /// Tensor bytes of the source.
    pub bytes_in: u64,
    /// Tensor bytes written.
    pub bytes_out: u64,
    /// What a reader of the result should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl Report {
    fn of(done: &[Rewritten<ModuleReport>]) -> Self {
        let modules: Vec<ModuleReport> = done.iter().filter_map(|d| d.note.clone()).collect();
        let losses: Vec<Loss> = modules.iter().filter_map(|m| m.loss).collect();
        let sum = |f: &dyn Fn(&Loss) -> f64| losses.iter().map(f).sum::<f64>();
        let (error2, norm2) = (sum(&|l| l.error2), sum(&|l| l.norm2));
        Self {
            schema: "xgraft.quantize-report/1".into(),
            simulated: Vec::new(),
            scaled: Vec::new(),
            relative_error: (!losses.is_empty()).then(|| match norm2 > 0.0 {
                true => (error2 / norm2).sqrt(),
                false => 0.0,
            }),
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

    /// The error of all outputs; where activation statistics are given.
    ///
    /// Sums over layers, so layers with large outputs count for more.
    #[must_use]
    pub fn output(&self) -> Option<OutputError> {
        let mut all = OutputError::default();
        for module in &self.modules {
            let output = module.output?;
            all.error2 += output.error2;
            all.norm2 += output.norm2;
        }
        (!self.modules.is_empty()).then_some(all)
    }

    /// The mean over the layers of the relative error of their outputs; where activation statistics are given.
    #[must_use]
    pub fn mean_output_error(&self) -> Option<f64> {
        let errors = self.modules.iter().map(|m| Some(m.output?.relative()));
        let errors = errors.collect::<Option<Vec<f64>>>()?;
        (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64)
    }

    /// ‖decoded − original‖/‖original − base‖: the noise over the fine-tune.
    fn noise_ratio(&self, delta: DeltaSums) -> f64 {
        let error2: f64 = self
            .modules
            .iter()
            .filter_map(|m| Some(m.loss?.error2))
            .sum();
        if delta.before2 > 0.0 {
            (error2 / delta.before2).sqrt()
        } else {
            0.0
        }
    }

    /// The measurements of `verb` as rows.
    #[must_use]
    pub fn rows(&self, verb: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for m in &self.modules {
            let mut push = |metric: &str, value: f64, unit: Option<&str>| {
                let row = Row::new(metric, value)
                    .arm(verb)
                    .module(&m.module)
                    .source(verb);
                rows.push(match unit {
                    Some(unit) => row.unit(unit),
                    None => row,
                });
            };
            if let Some(loss) = &m.loss {
                push("quantization_error", loss.relative_error, None);
            }
            push("weight_bytes", m.bytes_out as f64, Some("bytes"));
            if let Some(output) = &m.output {
                push("output_error", output.relative(), None);
            }
            if let Some(delta) = &m.delta {
                push("delta_cosine", delta.cosine(), None);
                push("delta_sign_agreement", delta.sign_agreement(), None);
            }
        }
        let delta = self.delta();
        for (metric, value) in [
            ("total_relative_error", self.relative_error),
            ("total_output_error", self.output().map(|o| o.relative())),
            ("mean_output_error", self.mean_output_error()),
            ("total_delta_cosine", delta.map(|d| d.cosine())),
            (
                "total_delta_sign_agreement",
                delta.map(|d| d.sign_agreement()),
            ),
            ("total_noise_ratio", delta.map(|d| self.noise_ratio(d))),
        ] {
            let row = value.map(|value| Row::new(metric, value).arm(verb).source(verb));
            rows.extend(row);
        }
        rows.push(
            Row::new("checkpoint_bytes", self.bytes_out as f64)
                .unit("bytes")
                .arm(verb)
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
    pub(crate) fn of(done: &[Rewritten<ModuleReport>]) -> Self {
        Self {
            report: Report::of(done),
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
