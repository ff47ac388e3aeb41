//! Checkpoints written: the same bytes as the `safetensors` library, in shards, and resumed after a kill.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::json;
use xgraft_checkpoint::{
    Checkpoint, CheckpointWriter, DEFAULT_SHARD_BYTES, Dtype, Error, OutputDir, PlannedTensor,
    ShardPlan,
};

use crate::support::{Tensor, assert_says, contents, safetensors_bytes, tensor};

fn output(dir: &Path) -> OutputDir {
    OutputDir::create(&dir.join("out"), false, &json!({"job": 1})).unwrap()
}

fn planned(tensors: &[Tensor]) -> Vec<PlannedTensor> {
    let plan = |t: &Tensor| {
        let dtype = Dtype::from_name(&t.dtype.to_string()).unwrap();
        PlannedTensor::new(t.name.clone(), dtype, t.shape.clone())
    };
    tensors.iter().map(plan).collect()
}

fn write_one(writer: &CheckpointWriter, t: &Tensor) {
    let mut one = writer.tensor(&t.name).unwrap();
    for piece in t.bytes.chunks(7) {
        one.write(piece).unwrap();
    }
    one.finish().unwrap();
}

/// Writes everything at once and gives back the files.
fn written(tensors: &[Tensor], max_shard_bytes: u64) -> BTreeMap<String, Vec<u8>> {
    let temp = tempfile::tempdir().unwrap();
    let out = output(temp.path());
    let plan = ShardPlan::new(planned(tensors), max_shard_bytes).unwrap();
    let writer = CheckpointWriter::create(&out, plan).unwrap();
    tensors.iter().rev().for_each(|t| write_one(&writer, t));
    writer.finish().unwrap();
    out.commit().unwrap();
    let files = contents(&temp.path().join("out"));
    files
        .into_iter()
        .map(|(name, bytes)| (name.display().to_string(), bytes))
        .collect()
}

/// Bytes that tell one tensor from another.
fn sample(name: &str, dtype: safetensors::Dtype, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    let seed = name.bytes().map(usize::from).sum::<usize>();
    tensor(
        name,
        dtype,
        shape,
        (0..count).map(|i| ((i * 31 + seed) % 120) as u8).collect(),
    )
}

fn four() -> Vec<Tensor> {
    use safetensors::Dtype::{BF16, F8_E4M3, F32};
    vec![
        sample("model.layers.0.a.weight", BF16, &[4, 8]),
        sample("model.layers.0.b.weight", F8_E4M3, &[3, 5]),
        sample("model.layers.1.a.weight", BF16, &[4, 8]),
        sample("model.norm.weight", F32, &[8]),
    ]
}

#[test]
fn one_file_has_the_bytes_of_the_safetensors_library() {
    let tensors = four();
    let files = written(&tensors, DEFAULT_SHARD_BYTES);
    assert_eq!(files.len(), 1, "no index beside a single file");
    assert_eq!(files["model.safetensors"], safetensors_bytes(&tensors));
}

#[test]
fn shards_are_filled_in_order_and_indexed() {
    let files = written(&four(), 100);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json"
        ]
    );
    let index: serde_json::Value =
        serde_json::from_slice(&files["model.safetensors.index.json"]).unwrap();
    assert_eq!(index["metadata"]["total_size"], 64 + 15 + 64 + 32);
    assert_eq!(index["weight_map"]["model.layers.0.b.weight"], names[0]);
    assert_eq!(index["weight_map"]["model.layers.1.a.weight"], names[1]);
}

#[test]
fn a_tensor_above_the_limit_has_a_shard_of_its_own() {
    let plan = ShardPlan::new(planned(&four()), 10).unwrap();
    assert_eq!(plan.file_names().len(), 4);
    assert_eq!(plan.total_bytes(), 175);
    let plan = ShardPlan::new(Vec::new(), 10).unwrap();
    assert_eq!(plan.file_names().collect::<Vec<_>>(), ["model.safetensors"]);
}

#[test]
fn a_plan_with_a_name_twice_or_a_size_without_end_is_refused() {
    let w = || PlannedTensor::new("w", Dtype::F32, [2]);
    assert_says(
        &ShardPlan::new(vec![w(), w()], 100).unwrap_err(),
        &["`w`", "once"],
    );
    let huge = PlannedTensor::new("w", Dtype::F32, [usize::MAX, 2]);
    assert_says(
        &ShardPlan::new(vec![huge], 100).unwrap_err(),
        &["`w`", "64 bits"],
    );
    let many = vec![
        PlannedTensor::new("a", Dtype::U8, [usize::MAX]),
        PlannedTensor::new("b", Dtype::U8, [usize::MAX]),
    ];
    assert_says(
        &ShardPlan::new(many, u64::MAX).unwrap_err(),
        &["`b`", "64 bits"],
    );
}

#[test]
fn a_killed_run_resumes_and_repeats_nothing() {
    let (tensors, temp) = (four(), tempfile::tempdir().unwrap());
    let plan = || ShardPlan::new(planned(&tensors), 100).unwrap();
    let out = output(temp.path());
    let writer = CheckpointWriter::create(&out, plan()).unwrap();
    write_one(&writer, &tensors[0]);
    write_one(&writer, &tensors[3]);
    let mut torn = writer.tensor(&tensors[1].name).unwrap();
    torn.write(&[0x55; 9]).unwrap();
    // The process ends here: nothing is flushed, nothing is dropped in order.
    std::mem::forget(torn);
    std::mem::forget(writer);
    drop(out);

    let out = output(temp.path());
    assert!(out.resumed());
    let writer = CheckpointWriter::create(&out, plan()).unwrap();
    let done: Vec<bool> = tensors.iter().map(|t| writer.is_done(&t.name)).collect();
    assert_eq!(done, [true, false, false, true]);
    assert_eq!(writer.done_count(), 2);
    tensors
        .iter()
        .filter(|t| !writer.is_done(&t.name))
        .for_each(|t| write_one(&writer, t));
    writer.finish().unwrap();
    out.commit().unwrap();
    let resumed: BTreeMap<_, _> = contents(&temp.path().join("out"))
        .into_iter()
        .map(|(name, bytes)| (name.display().to_string(), bytes))
        .collect();
    assert_eq!(resumed, written(&tensors, 100));
}

#[test]
fn a_torn_line_of_the_journal_is_done_again() {
    let (tensors, temp) = (four(), tempfile::tempdir().unwrap());
    let plan = || ShardPlan::new(planned(&tensors), 100).unwrap();
    let out = output(temp.path());
    let writer = CheckpointWriter::create(&out, plan()).unwrap();
    tensors[..3].iter().for_each(|t| write_one(&writer, t));
    drop(writer);
    let journal = out.path().join(".xgraft/tensors.jsonl");
    let text = fs::read(&journal).unwrap();
    fs::write(&journal, &text[..text.len() - 4]).unwrap();
    let writer = CheckpointWriter::create(&out, plan()).unwrap();
    assert!(writer.is_done(&tensors[1].name));
    assert!(!writer.is_done(&tensors[2].name));
}

#[test]
fn a_shard_that_is_gone_or_changed_is_written_again() {
    let (tensors, temp) = (four(), tempfile::tempdir().unwrap());
    let plan = || ShardPlan::new(planned(&tensors), 100).unwrap();
    let out = output(temp.path());
    let writer = CheckpointWriter::create(&out, plan()).unwrap();
    tensors.iter().for_each(|t| write_one(&writer, t));
    drop(writer);
    fs::remove_file(out.path().join("model-00001-of-00002.safetensors")).unwrap();
    let second = out.path().join("model-00002-of-00002.safetensors");
    let length = fs::metadata(&second).unwrap().len();
    let writer = CheckpointWriter::create(&out, plan()).unwrap();
    let done: Vec<bool> = tensors.iter().map(|t| writer.is_done(&t.name)).collect();
    assert_eq!(done, [false, false, true, true]);
    drop(writer);
    fs::OpenOptions::new()
        .write(true)
        .open(&second)
        .unwrap()
        .set_len(length - 1)
        .unwrap();
    let writer = CheckpointWriter::create(&out, plan()).unwrap();
    assert_eq!(writer.done_count(), 0);
}

#[test]
fn another_plan_starts_anew_and_leaves_no_old_shard() {
    let (tensors, temp) = (four(), tempfile::tempdir().unwrap());
    let out = output(temp.path());
    let writer =
        CheckpointWriter::create(&out, ShardPlan::new(planned(&tensors), 10).unwrap()).unwrap();
    tensors.iter().for_each(|t| write_one(&writer, t));
    drop(writer);
    let writer =
        CheckpointWriter::create(&out, ShardPlan::new(planned(&tensors), 100).unwrap()).unwrap();
    assert_eq!(writer.done_count(), 0);
    tensors.iter().for_each(|t| write_one(&writer, t));
    writer.finish().unwrap();
    out.commit().unwrap();
    assert_eq!(contents(&temp.path().join("out")).len(), 3);
}

#[test]
fn a_tensor_is_written_exactly_as_planned_or_not_at_all() {
    let temp = tempfile::tempdir().unwrap();
    let out = output(temp.path());
    let plan = ShardPlan::new(vec![PlannedTensor::new("w", Dtype::Bf16, [2])], 100).unwrap();
    let writer = CheckpointWriter::create(&out, plan).unwrap();
    assert_says(&writer.tensor("x").unwrap_err(), &["`x`"]);
    let mut one = writer.tensor("w").unwrap();
    assert_says(&writer.tensor("w").unwrap_err(), &["one writer at a time"]);
    assert_says(
        &one.write(&[0; 5]).unwrap_err(),
        &["`w`", "4 bytes of BF16", "at least 5 bytes"],
    );
    one.write(&[0; 2]).unwrap();
    assert_says(&one.finish().unwrap_err(), &["`w`", "4 bytes", "2 bytes"]);
    assert!(!writer.is_done("w"));
    drop(writer.tensor("w").unwrap());
    assert_says(
        &writer.finish().unwrap_err(),
        &["`w`", "all 1 tensors", "0 of them"],
    );
}

#[test]
fn numbers_are_rounded_into_the_planned_type() {
    let temp = tempfile::tempdir().unwrap();
    let out = output(temp.path());
    let types = [
        Dtype::F32,
        Dtype::Bf16,
        Dtype::F16,
        Dtype::F8E8m0,
        Dtype::I8,
    ];
    let tensors = types.map(|d| PlannedTensor::new(d.name(), d, [3]));
    let writer =
        CheckpointWriter::create(&out, ShardPlan::new(tensors.to_vec(), 1000).unwrap()).unwrap();
    for name in ["F32", "BF16", "F16"] {
        let mut one = writer.tensor(name).unwrap();
        one.write_f32(&[1.003, -2.0, 1e-3]).unwrap();
        one.finish().unwrap();
    }
    let mut scales = writer.tensor("F8_E8M0").unwrap();
    assert_says(&scales.write_f32(&[3.0]).unwrap_err(), &["the number 3"]);
    scales.write_f32(&[1.0, 0.5, 2f32.powi(-127)]).unwrap();
    scales.finish().unwrap();
    let mut ints = writer.tensor("I8").unwrap();
    assert!(ints.write_f32(&[1.0]).is_err());
    assert!(ints.write_bf16(&[bf16::ONE]).is_err());
    ints.write(&[1, 2, 3]).unwrap();
    ints.finish().unwrap();
    writer.finish().unwrap();
    out.write_atomic("config.json", b"{}").unwrap();
    out.commit().unwrap();
    let checkpoint = Checkpoint::open(temp.path().join("out")).unwrap();
    let bytes = |name: &str| {
        let mut bytes = Vec::new();
        let take = |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok(())
        };
        checkpoint
            .stream(checkpoint.tensor(name).unwrap(), take)
            .unwrap();
        bytes
    };
    let expected: Vec<u8> = [1.003f32, -2.0, 1e-3]
        .iter()
        .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
        .collect();
    assert_eq!(bytes("BF16"), expected);
    let expected: Vec<u8> = [1.003f32, -2.0, 1e-3]
        .iter()
        .flat_map(|&x| f16::from_f32(x).to_le_bytes())
        .collect();
    assert_eq!(bytes("F16"), expected);
    assert_eq!(bytes("F8_E8M0"), [127, 126, 0]);
}

#[test]
fn threads_write_different_tensors_at_once() {
    let tensors: Vec<Tensor> = (0..16)
        .map(|i| {
            sample(
                &format!("t{i:02}.weight"),
                safetensors::Dtype::BF16,
                &[32, 64],
            )
        })
        .collect();
    let temp = tempfile::tempdir().unwrap();
    let out = output(temp.path());
    let plan = ShardPlan::new(planned(&tensors), 10_000).unwrap();
    let writer = CheckpointWriter::create(&out, plan).unwrap();
    std::thread::scope(|scope| {
        for half in tensors.chunks(4) {
            scope.spawn(|| half.iter().for_each(|t| write_one(&writer, t)));
        }
    });
    writer.finish().unwrap();
    out.commit().unwrap();
    let files: BTreeMap<_, _> = contents(&temp.path().join("out"))
        .into_iter()
        .map(|(name, bytes)| (name.display().to_string(), bytes))
        .collect();
    assert_eq!(files, written(&tensors, 10_000));
}

#[test]
fn a_disk_without_room_is_told_before_anything_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let out = output(temp.path());
    let petabytes = PlannedTensor::new("w.weight", Dtype::U8, [1 << 55]);
    let plan = ShardPlan::new(vec![petabytes], DEFAULT_SHARD_BYTES).unwrap();
    let error = CheckpointWriter::create(&out, plan).unwrap_err();
    let Error::DiskFull { needed, free, .. } = &error else {
        panic!("{error}")
    };
    assert!(*needed > 1 << 55 && *free > 0 && free < needed);
    assert_says(&error, &["bytes of free space", &needed.to_string()]);
    assert!(error.hint().is_some());
    assert!(!out.path().join("model.safetensors").exists());
    drop(out);
    assert!(
        !temp.path().join("out.partial").exists(),
        "nothing half-written is left"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is planned is what the library reads, and the library's bytes are ours.
    #[test]
    fn files_round_trip_through_the_safetensors_library(
        shapes in prop::collection::btree_map("[a-z.\u{e9}\"\\\\]{1,10}", (0usize..6, prop::collection::vec(0usize..6, 0..4)), 1..9),
        max_shard_bytes in 1u64..400,
    ) {
        use safetensors::Dtype::{BF16, F8_E4M3, F8_E8M0, F32, F64, I64};
        let tensors: Vec<Tensor> = shapes
            .iter()
            .map(|(name, (kind, shape))| sample(name, [BF16, F8_E4M3, F8_E8M0, F32, F64, I64][*kind], shape))
            .collect();
        prop_assert_eq!(&written(&tensors, u64::MAX)["model.safetensors"], &safetensors_bytes(&tensors));
        let mut found = 0;
        for (name, bytes) in written(&tensors, max_shard_bytes) {
            if !name.ends_with(".safetensors") {
                continue;
            }
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in file.tensors() {
                let expected = tensors.iter().find(|t| t.name == name).unwrap();
                prop_assert_eq!(view.data(), expected.bytes.as_slice());
                prop_assert_eq!(view.shape(), expected.shape.as_slice());
                found += 1;
            }
        }
        prop_assert_eq!(found, tensors.len());
    }
}
