//! Every stored format gives what its decoded weights give.

use std::path::Path;

use serde_json::json;
use xgraft_checkpoint::{
    Checkpoint, CheckpointWriter, DEFAULT_SHARD_BYTES, Dtype, OutputDir, PlannedTensor, ShardPlan,
};
use xgraft_fixtures::golden;
use xgraft_model::{KvType, Model, Options};

use crate::sequence::all_logits;

#[test]
fn fp8_as_the_reference_wrote_it_runs_like_its_decoded_weights() {
    let model = Model::open(golden::path("ct-fp8-block"), &Options::default()).unwrap();
    let logits = all_logits(&model, KvType::F32, &[1, 5, 9, 30, 3], None);
    let temp = tempfile::tempdir().unwrap();
    let decoded = temp.path().join("decoded");
    decode(&golden::path("ct-fp8-block"), &decoded);
    let plain = Model::open(&decoded, &Options::default()).unwrap();
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
    let checkpoint = Checkpoint::open(from).expect("a copy in F32");
    let out = OutputDir::create(to, false, &json!({})).expect("a copy in F32");
    let planned = checkpoint
        .weights()
        .iter()
        .map(|w| PlannedTensor::new(w.plain_name(), Dtype::F32, w.shape.clone()))
        .collect();
    let plan = ShardPlan::new(planned, DEFAULT_SHARD_BYTES).expect("a copy in F32");
    let writer = CheckpointWriter::create(&out, plan).expect("a copy in F32");
    for weight in checkpoint.weights() {
        let (matrix, _) = checkpoint.load(weight).expect("a copy in F32");
        let mut tensor = writer.tensor(&weight.plain_name()).expect("a copy in F32");
        tensor.write_f32(&matrix.to_f32()).expect("a copy in F32");
        tensor.finish().expect("a copy in F32");
    }
    writer.finish().expect("a copy in F32");
    let config = checkpoint.config().with_quantization(None);
    out.write_atomic("config.json", config.as_bytes())
        .expect("a copy in F32");
    out.commit().expect("a copy in F32");
}
