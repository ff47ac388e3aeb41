//! What the directory holds, from its headers and configurations.

use std::collections::BTreeMap;
use std::path::Path;
use xgraft_results::human::{bytes, number};

use serde_json::Value;
use xgraft_checkpoint::{Adapter, Checkpoint, TensorInfo};
use xgraft_quantize::simulated;

use super::json_of;

/// An adapter or a checkpoint.
pub(super) struct Contents {
    /// `adapter_config.json` of an adapter.
    pub(super) adapter: Option<Value>,
    /// `config.json` of a checkpoint.
    config: Option<Value>,
    /// Formats that were simulated on the weights.
    pub(super) simulated: Vec<String>,
    /// Bytes by element type.
    dtypes: BTreeMap<String, u64>,
    /// Ranks of an adapter's pairs, each with the number of modules that have it.
    ranks: BTreeMap<usize, usize>,
    /// The factors before their products.
    scales: Vec<f64>,
}

impl Contents {
    pub(super) fn of(dir: &Path) -> anyhow::Result<Self> {
        let mut contents = Self {
            adapter: json_of(&dir.join("adapter_config.json"))?,
            config: json_of(&dir.join("config.json"))?,
            simulated: Vec::new(),
            dtypes: BTreeMap::new(),
            ranks: BTreeMap::new(),
            scales: Vec::new(),
        };
        if contents.adapter.is_some() {
            let adapter = Adapter::open(dir)?;
            adapter
                .tensors()
                .iter()
                .for_each(|t| contents.count(&t.info));
            for module in adapter.modules() {
                *contents.ranks.entry(module.rank).or_default() += 1;
                contents.scales.push(module.scale);
            }
        } else {
            let checkpoint = Checkpoint::open(dir)?;
            checkpoint.tensors().for_each(|t| contents.count(t));
            contents.simulated = simulated(&checkpoint);
        }
        Ok(contents)
    }

    fn count(&mut self, tensor: &TensorInfo) {
        *self.dtypes.entry(tensor.dtype.to_string()).or_default() += tensor.bytes;
    }

    /// What the files call the base.
    pub(super) fn base_name(&self) -> Option<&str> {
        match &self.adapter {
            Some(adapter) => adapter["base_model_name_or_path"].as_str(),
            None => self.config.as_ref()?["_name_or_path"].as_str(),
        }
    }

    /// `BF16 (3.1 GiB), F8_E4M3 (29 GiB)`.
    pub(super) fn dtypes(&self) -> String {
        let dtypes = self.dtypes.iter();
        let dtypes: Vec<String> = dtypes
            .map(|(dtype, size)| format!("{dtype} ({})", bytes(*size)))
            .collect();
        dtypes.join(", ")
    }

    /// `8`, or `8 to 64 (mean 21.5)` where modules differ; nothing of a checkpoint.
    pub(super) fn rank(&self) -> Option<String> {
        let (least, most) = (self.ranks.keys().next()?, self.ranks.keys().next_back()?);
        if least == most {
            return Some(least.to_string());
        }
        let count: usize = self.ranks.values().sum();
        let sum: usize = self.ranks.iter().map(|(rank, n)| rank * n).sum();
        let mean = sum as f64 / count as f64;
        Some(format!("{least} to {most} (mean {mean:.1})"))
    }

    /// The factor before B·A, `1`, or `0.5 to 2` where modules differ; nothing of a checkpoint.
    pub(super) fn scale(&self) -> Option<String> {
        let [least, most] = [f64::min, f64::max].map(|f| self.scales.iter().copied().reduce(f));
        let (least, most) = (number(least?), number(most?));
        Some(match least == most {
            true => least,
            false => format!("{least} to {most}"),
        })
    }

    /// The projections that an adapter changes.
    pub(super) fn targets(&self) -> Option<String> {
        let targets = self.adapter.as_ref()?["target_modules"].as_array()?.iter();
        let targets: Vec<&str> = targets.filter_map(Value::as_str).collect();
        Some(targets.join(", "))
    }
}
