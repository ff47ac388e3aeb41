//! The measurements as rows.
//!
//! Rows of one matrix bear its module. Means over a projection, over a layer and over everything have the prefix `summary_`, and
//! bear `*.q_proj`, `layers.3.*` and `*` in the module's place, so that no reader takes them for matrices.

use xgraft_results::Row;

use crate::measures::{Angles, Cosine, Leakage};
use crate::report::{ModuleReport, NoiseReport, Overlap, Report};
use crate::summary::{Cosines, NoiseSummary, OverlapSummary, Summary};

/// The most singular values of an update in the rows; `report.json` has all of them.
const SPECTRUM: usize = 32;

/// What belongs to the adapter alone, or to two adapters.
const ADAPTER: &str = "adapter";
const ADAPTERS: &str = "adapters";

impl Report {
    /// The measurements as rows: those of a noise under its label, those of two noises or adapters under both, those of the
    /// adapter alone under `adapter`.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.modules.iter().flat_map(ModuleReport::rows).collect();
        for (group, name) in [(&self.by_projection, "*."), (&self.by_layer, "layers.")] {
            for summary in group {
                let end = if name == "layers." { ".*" } else { "" };
                rows.extend(summary.rows(&format!("{name}{}{end}", summary.name)));
            }
        }
        rows.extend(self.whole.rows("*"));
        rows
    }
}

/// Rows of one subject under one arm.
struct Rows<'a> {
    rows: Vec<Row>,
    prefix: &'static str,
    module: &'a str,
    arm: &'a str,
}

impl<'a> Rows<'a> {
    fn new(prefix: &'static str, module: &'a str) -> Self {
        Self {
            rows: Vec::new(),
            prefix,
            module,
            arm: "",
        }
    }

    fn arm(&mut self, arm: &'a str) -> &mut Self {
        self.arm = arm;
        self
    }

    fn row(&self, metric: &str, value: f64) -> Row {
        let row = Row::new(format!("{}{metric}", self.prefix), value);
        row.arm(self.arm)
            .module(self.module)
            .source("orthogonality")
    }

    fn push(&mut self, metric: &str, value: f64) {
        self.rows.push(self.row(metric, value));
    }

    fn decibel(&mut self, metric: &str, value: Option<f64>) {
        let row = value.map(|value| self.row(metric, value).unit("dB"));
        self.rows.extend(row);
    }

    /// One row a value; `n` is its place, from 1.
    fn spectrum(&mut self, metric: &str, values: &[f64]) {
        let values = values.iter().take(SPECTRUM).zip(1u64..);
        let rows = values.map(|(value, place)| self.row(metric, *value).n(place));
        let rows: Vec<Row> = rows.collect();
        self.rows.extend(rows);
    }

    fn cosine(&mut self, metric: &str, cosine: &Cosine) {
        self.push(metric, cosine.value);
        self.push(&format!("{metric}_z"), cosine.z);
        self.push(&format!("{metric}_chance"), cosine.chance);
    }

    fn cosines(&mut self, metric: &str, cosines: &Cosines) {
        self.push(metric, cosines.mean);
        self.push(&format!("{metric}_abs"), cosines.mean_abs);
        self.push(&format!("{metric}_chance"), cosines.chance);
        self.push(&format!("{metric}_max_abs_z"), cosines.max_abs_z);
    }

    fn leakage(&mut self, metric: &str, leakage: &Leakage) {
        self.push(metric, leakage.energy);
        self.push(&format!("{metric}_chance"), leakage.energy_chance);
        self.push(&format!("{metric}_norm"), leakage.norm);
        self.push(&format!("{metric}_norm_chance"), leakage.norm_chance);
    }

    fn angles(&mut self, side: &str, angles: &Angles) {
        self.push(&format!("overlap_{side}"), angles.overlap);
        self.push(&format!("overlap_{side}_chance"), angles.chance);
        for (which, value) in [
            ("min", angles.min),
            ("mean", angles.mean),
            ("max", angles.max),
        ] {
            self.push(&format!("angle_cosine_{which}_{side}"), value);
        }
    }
}

impl ModuleReport {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Rows::new("", &self.module);
        rows.arm(ADAPTER).push("adapter_norm", self.update.norm);
        rows.push("adapter_rank", self.update.rank as f64);
        rows.push("adapter_stable_rank", self.update.stable_rank);
        rows.spectrum("adapter_singular_value", &self.update.singular_values);
        for n in &self.noises {
            n.rows(rows.arm(&n.noise));
        }
        for p in &self.pairs {
            rows.arm(&p.pair).cosine("cosine_noise_noise", &p.cosine);
        }
        if let Some(overlap) = &self.overlap {
            overlap.rows(rows.arm(ADAPTERS));
        }
        rows.rows
    }
}

impl NoiseReport {
    fn rows(&self, rows: &mut Rows<'_>) {
        rows.push("noise_norm", self.norm);
        rows.push("weight_norm", self.weight_norm);
        rows.push("noise_over_adapter", self.over_adapter);
        rows.push("noise_over_weight", self.over_weight);
        rows.push("adapter_over_weight", self.adapter_over_weight);
        rows.push("noise_stable_rank", self.stable_rank);
        rows.push("noise_over_white_edge", self.over_white_edge);
        rows.spectrum("noise_singular_value", &self.singular_values);
        rows.cosine("cosine_noise_adapter", &self.cosine);
        rows.cosine("cosine_noise_random", &self.random);
        rows.cosine("cosine_noise_shuffled", &self.shuffled);
        if let Some(other) = &self.other_layer {
            rows.cosine("cosine_noise_other_layer", &other.cosine);
        }
        rows.leakage("leakage_left", &self.left);
        rows.leakage("leakage_right", &self.right);
        rows.leakage("leakage_inside", &self.inside);
        rows.decibel("snr_inside", self.snr_inside_db);
        rows.decibel("snr_left", self.snr_left_db);
    }
}

impl Overlap {
    fn rows(&self, rows: &mut Rows<'_>) {
        rows.angles("left", &self.left);
        rows.angles("right", &self.right);
        rows.cosine("cosine_adapters", &self.cosine);
    }
}

impl Summary {
    fn rows(&self, name: &str) -> Vec<Row> {
        let mut rows = Rows::new("summary_", name);
        for n in &self.noises {
            n.rows(rows.arm(&n.noise));
        }
        for p in &self.pairs {
            rows.arm(&p.pair).cosines("cosine_noise_noise", &p.cosine);
        }
        if let Some(overlap) = &self.overlap {
            overlap.rows(rows.arm(ADAPTERS));
        }
        rows.rows
    }
}

impl NoiseSummary {
    fn rows(&self, rows: &mut Rows<'_>) {
        rows.push("modules", self.modules as f64);
        rows.push("noise_over_adapter", self.over_adapter);
        rows.push("noise_over_weight", self.over_weight);
        rows.push("adapter_over_weight", self.adapter_over_weight);
        rows.push("noise_stable_rank", self.stable_rank);
        rows.push("adapter_stable_rank", self.adapter_stable_rank);
        rows.push("noise_over_white_edge", self.over_white_edge);
        rows.spectrum("noise_spectrum", &self.spectrum);
        rows.spectrum("adapter_spectrum", &self.adapter_spectrum);
        rows.cosines("cosine_noise_adapter", &self.cosine);
        rows.cosines("cosine_noise_random", &self.random);
        rows.cosines("cosine_noise_shuffled", &self.shuffled);
        if let Some(other) = &self.other_layer {
            rows.cosines("cosine_noise_other_layer", other);
        }
        rows.leakage("leakage_left", &self.left);
        rows.leakage("leakage_right", &self.right);
        rows.leakage("leakage_inside", &self.inside);
        rows.decibel("snr_inside", self.snr_inside_db);
        rows.decibel("snr_left", self.snr_left_db);
    }
}

impl OverlapSummary {
    fn rows(&self, rows: &mut Rows<'_>) {
        rows.push("modules", self.modules as f64);
        rows.push("overlap_left", self.left);
        rows.push("overlap_left_chance", self.left_chance);
        rows.push("overlap_right", self.right);
        rows.push("overlap_right_chance", self.right_chance);
        rows.cosines("cosine_adapters", &self.cosine);
    }
}
