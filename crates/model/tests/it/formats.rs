//! Every stored format gives what its decoded weights give.

use std::path::Path;

use serde_json::{Value, json};
use xgraft_fixtures::golden;
use xgraft_model::{KvType, Model, Options};

use crate::sequence::all_logits;

#[test]
fn fp8_as_the_reference_wrote_it_runs_like_its_decoded_weights() {
    let model = Model::open(golden::path("ct-fp8-block"), &Options::default()).unwrap();
    let logits = all_logits(&model, KvType::F32, &[1, 5, 9, 30, 3], None);
    let decoded = tempfile::tempdir().unwrap();
    decode(&golden::path("ct-fp8-block"), decoded.path());
    let plain = Model::open(decoded.path(), &Options::default()).unwrap();
    // Bit for bit: an element is rounded to f32 once in both.
    assert_eq!(
        logits,
        all_logits(&plain, KvType::F32, &[1, 5, 9, 30, 3], None)
    );
    assert!(
        model.bytes() < plain.bytes() / 2,
        "{} and {}",
        model.bytes(),
        plain.bytes()
    );
}

/// Writes a model with all weights as F32.
fn decode(from: &Path, to: &Path) {
    let checkpoint = xgraft_checkpoint::Checkpoint::open(from).unwrap();
    let mut tensors = Vec::new();
    for weight in checkpoint.weights() {
        let (matrix, _) = checkpoint.load(weight).unwrap();
        let bytes: Vec<u8> = matrix
            .to_f32()
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        tensors.push((weight.plain_name(), weight.shape.clone(), bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name, view.unwrap())
    });
    safetensors::serialize_to_file(views, None, &to.join("model.safetensors")).unwrap();
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(from.join("config.json")).unwrap()).unwrap();
    config
        .as_object_mut()
        .unwrap()
        .remove("quantization_config");
    config["dtype"] = json!("float32");
    std::fs::write(to.join("config.json"), config.to_string()).unwrap();
}
