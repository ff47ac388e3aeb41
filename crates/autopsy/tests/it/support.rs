//! Models on disk, healthy and with faults planted.

use std::ops::ControlFlow;
use std::path::Path;

use half::bf16;
use tempfile::TempDir;
use xgraft_autopsy::{Report, TensorReport, Thresholds, autopsy};
use xgraft_checkpoint::Checkpoint;
use xgraft_fixtures::TINY;

/// A tensor's name, type as headers call it, shape and bytes.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn raw(name: &str, dtype: &'static str, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        bytes,
    }
}

pub(crate) fn bf16_tensor(name: &str, shape: &[usize], numbers: &[f32]) -> Tensor {
    let bytes = numbers
        .iter()
        .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
        .collect();
    raw(name, "BF16", shape, bytes)
}

pub(crate) fn f32_tensor(name: &str, shape: &[usize], numbers: &[f32]) -> Tensor {
    let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw(name, "F32", shape, bytes)
}

pub(crate) const QWEN3: &str = r#"{"model_type": "qwen3"}"#;

/// A safetensors file of these tensors.
pub(crate) fn file(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for tensor in tensors {
        let start = data.len();
        data.extend(&tensor.bytes);
        header.insert(
            tensor.name.clone(),
            serde_json::json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

pub(crate) fn model(config: &str, tensors: &[Tensor]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    std::fs::write(dir.path().join("model.safetensors"), file(tensors)).unwrap();
    dir
}

/// The weights of the fixture's base in f32, with their shapes.
pub(crate) fn base() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let base = Checkpoint::open(TINY.base()).unwrap();
    base.weights()
        .iter()
        .map(|w| {
            let numbers = base.load(w).unwrap().0.to_f32();
            (w.tensor.clone(), w.shape.clone(), numbers)
        })
        .collect()
}

/// The fixture's base, its linear weights put through `convert` (name, shape, numbers).
pub(crate) fn bridge(convert: impl Fn(&str, [usize; 2], &[f32]) -> Vec<f32>) -> TempDir {
    let tensors: Vec<Tensor> = base()
        .into_iter()
        .map(|(name, shape, numbers)| {
            let numbers = match *shape.as_slice() {
                [rows, cols] if name.contains("_proj") => convert(&name, [rows, cols], &numbers),
                _ => numbers,
            };
            // F32, so that codes over a scale of 1e-4 do not overflow.
            f32_tensor(&name, &shape, &numbers)
        })
        .collect();
    let config = std::fs::read_to_string(TINY.base().join("config.json")).unwrap();
    model(&config, &tensors)
}

pub(crate) fn examine(dir: &Path, reference: Option<&Path>) -> Report {
    examine_with(dir, reference, &Thresholds::default())
}

pub(crate) fn examine_with(
    dir: &Path,
    reference: Option<&Path>,
    thresholds: &Thresholds,
) -> Report {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let reference = reference.map(|dir| Checkpoint::open(dir).unwrap());
    autopsy(&checkpoint, reference.as_ref(), thresholds, &|_| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

pub(crate) fn of<'a>(report: &'a Report, tensor: &str) -> &'a TensorReport {
    report.tensors.iter().find(|t| t.tensor == tensor).unwrap()
}

/// What every sick tensor has, one line each, for messages of failing tests.
pub(crate) fn lines(report: &Report) -> String {
    let lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Normal numbers by a fixed sequence: Box and Muller over a 64-bit mixer.
pub(crate) fn normals(seed: u64, count: usize, std: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32 + 1e-9
    };
    (0..count)
        .map(|_| {
            let (radius, angle) = (
                (-2.0 * uniform().ln()).sqrt(),
                uniform() * std::f32::consts::TAU,
            );
            std * radius * angle.cos()
        })
        .collect()
}
