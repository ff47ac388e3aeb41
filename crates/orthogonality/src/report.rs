//! What a comparison tells: `report.json` and its rows.

use serde::{Deserialize, Serialize};
use xgraft_results::{Finding, Severity};

use crate::measures::{Angles, Cosine, Leakage};
use crate::summary::Summary;

/// The whole of `report.json`.
///
/// N = dequantized − original is a noise, L = s·B·A the adapter's update, W the original weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `xgraft.orthogonality-report/1`.
    pub schema: String,
    /// The sign convention, spelled out.
    pub convention: String,
    /// Modules in the adapter's order.
    pub modules: Vec<ModuleReport>,
    /// Over all modules.
    pub whole: Summary,
    /// The same by projection (`q_proj`, `up_proj`, …).
    pub by_projection: Vec<Summary>,
    /// The same by layer.
    pub by_layer: Vec<Summary>,
    /// The result in plain words.
    pub words: Vec<String>,
    /// What a person should know of the inputs.
    pub findings: Vec<Finding>,
}

/// One linear layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// Module path.
    pub module: String,
    /// Its last component.
    pub projection: String,
    /// Its layer, where the path has a number.
    pub layer: Option<usize>,
    /// [out, in] of the weight.
    pub shape: [usize; 2],
    /// The adapter's update.
    pub update: UpdateReport,
    /// One entry for each noise that is not zero.
    pub noises: Vec<NoiseReport>,
    /// Noises that are zero here: the layer is not quantized.
    pub not_quantized: Vec<String>,
    /// Every two noises.
    pub pairs: Vec<NoisePair>,
    /// The second adapter's update beside the first one's.
    pub overlap: Option<Overlap>,
}

/// The adapter's update L of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Dimension of its column and row space.
    pub rank: usize,
    /// ‖L‖, Frobenius.
    pub norm: f64,
    /// ‖L‖²/σ₁².
    pub stable_rank: f64,
    /// All singular values, descending.
    pub singular_values: Vec<f64>,
}

/// One noise N of one layer, by itself and beside L.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseReport {
    /// Which noise.
    pub noise: String,
    /// ‖N‖, Frobenius.
    pub norm: f64,
    /// ‖W‖ of the original.
    pub weight_norm: f64,
    /// ‖N‖/‖W‖.
    pub over_weight: f64,
    /// ‖N‖/‖L‖.
    pub over_adapter: f64,
    /// ‖L‖/‖W‖.
    pub adapter_over_weight: f64,
    /// The largest singular values of N by a few Krylov blocks, descending: none is above the true one.
    pub singular_values: Vec<f64>,
    /// ‖N‖²/σ₁²; at most this, as σ₁ is at least the one above.
    pub stable_rank: f64,
    /// σ₁ over that of white noise of the same norm and shape, ‖N‖(1/√m + 1/√n). Near 1 is a spectrum without structure.
    pub over_white_edge: f64,
    /// N and L.
    pub cosine: Cosine,
    /// N in the column space of L (U): ‖UᵀN‖.
    pub left: Leakage,
    /// N in the row space of L (V): ‖NV‖.
    pub right: Leakage,
    /// N in both: ‖UᵀNV‖, with the chance r²/(mn).
    pub inside: Leakage,
    /// ‖L‖² over ‖UUᵀNVVᵀ‖², in dB.
    pub snr_inside_db: Option<f64>,
    /// ‖L‖² over ‖UUᵀN‖², in dB.
    pub snr_left_db: Option<f64>,
    /// Control: N and a random matrix of the norm and shape of L.
    pub random: Cosine,
    /// Control: N and L with A's input columns in random order.
    pub shuffled: Cosine,
    /// Control: N and the adapter's update of the same projection in another layer.
    pub other_layer: Option<OtherLayer>,
}

/// The adapter's update of another layer as a control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OtherLayer {
    /// Whose update it is.
    pub module: String,
    /// N and that update.
    pub cosine: Cosine,
}

/// Two noises of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoisePair {
    /// The two, as `first × second`.
    pub pair: String,
    /// Their cosine.
    pub cosine: Cosine,
}

/// Two adapters' updates of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// Dimension of the second update's spaces.
    pub rank: usize,
    /// Their column spaces.
    pub left: Angles,
    /// Their row spaces.
    pub right: Angles,
    /// L₁ and L₂.
    pub cosine: Cosine,
}

impl Report {
    /// Whether no finding says that the inputs do not belong together.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|f| f.severity < Severity::Error)
    }
}
