//! Models and adapters made for a test.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use xgraft_checkpoint::{
    Adapter, AdapterConfig, AdapterPart, AdapterWriter, Checkpoint, CheckpointWriter,
    DEFAULT_SHARD_BYTES, Dtype, LoraKind, OutputDir, PlannedTensor, ShardPlan, peft_name,
    planned_pair,
};
use xgraft_orthogonality::{Noise, Report, Result, compare};

use crate::dense::Mat;

/// A folder of models with one width for all tests of it.
pub(crate) struct Made {
    folder: TempDir,
}

/// The module of layer `layer` that most tests use.
pub(crate) fn q_proj(layer: usize) -> String {
    format!("model.layers.{layer}.self_attn.q_proj")
}

impl Made {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A checkpoint with the q projections of some layers, in F32.
    pub(crate) fn checkpoint(&self, name: &str, layers: &[Mat]) -> Checkpoint {
        self.checkpoint_of(name, layers, 64)
    }

    pub(crate) fn checkpoint_of(&self, name: &str, layers: &[Mat], hidden: usize) -> Checkpoint {
        let out = OutputDir::create(&self.path(name), false, &json!({})).unwrap();
        let config = json!({"model_type": "qwen3", "hidden_size": hidden}).to_string();
        out.write_atomic("config.json", config.as_bytes()).unwrap();
        let names: Vec<String> = (0..layers.len()).map(|l| q_proj(l) + ".weight").collect();
        let planned = names.iter().zip(layers);
        let planned = planned.map(|(n, m)| PlannedTensor::new(n, Dtype::F32, [m.rows, m.cols]));
        let plan = ShardPlan::new(planned.collect(), DEFAULT_SHARD_BYTES).unwrap();
        let writer = CheckpointWriter::create(&out, plan).unwrap();
        for (name, matrix) in names.iter().zip(layers) {
            let mut tensor = writer.tensor(name).unwrap();
            tensor.write_f32(&matrix.narrow()).unwrap();
            tensor.finish().unwrap();
        }
        writer.finish().unwrap();
        out.commit().unwrap();
        Checkpoint::open(self.path(name)).unwrap()
    }

    /// Two checkpoints and the noise between them; its label is unique in the folder.
    pub(crate) fn noise(&self, label: &str, original: &[Mat], quantized: &[Mat]) -> Noise {
        noise(
            label,
            self.checkpoint(&format!("{label}-original"), original),
            self.checkpoint(&format!("{label}-quantized"), quantized),
        )
    }

    /// An adapter of pairs (B, A) for the modules of the layers, with `alpha`.
    pub(crate) fn adapter(&self, name: &str, alpha: f64, pairs: &[(&str, &Mat, &Mat)]) -> Adapter {
        let dir = self.path(name);
        std::fs::create_dir_all(&dir).unwrap();
        write_adapter(&dir, alpha, pairs);
        Adapter::open(&dir).unwrap()
    }
}

fn write_adapter(dir: &Path, alpha: f64, pairs: &[(&str, &Mat, &Mat)]) {
    let rank = pairs[0].1.cols;
    let mut config = AdapterConfig::new("base", rank, vec!["q_proj".to_owned()]);
    config.lora_alpha = alpha;
    let planned = pairs.iter().flat_map(|(module, b, a)| {
        planned_pair(module, LoraKind::Linear, rank, (b.rows, a.cols), Dtype::F32)
    });
    let writer = AdapterWriter::create(dir, config, planned.collect()).unwrap();
    for (module, b, a) in pairs {
        for (part, values) in [(AdapterPart::LoraA, a), (AdapterPart::LoraB, b)] {
            let mut tensor = writer.tensor(&peft_name(module, part)).unwrap();
            tensor.write_f32(&values.narrow()).unwrap();
            tensor.finish().unwrap();
        }
    }
    writer.finish().unwrap();
}

pub(crate) fn noise(label: &str, original: Checkpoint, quantized: Checkpoint) -> Noise {
    Noise {
        label: label.to_owned(),
        original,
        quantized,
    }
}

/// Compares without being stopped.
pub(crate) fn compared(
    noises: &[Noise],
    adapter: &Adapter,
    second: Option<&Adapter>,
) -> Result<Report> {
    compare(noises, adapter, second, 7, &|_| ControlFlow::Continue(())).map(|(report, _)| report)
}
