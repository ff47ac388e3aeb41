//! Reading weights: every type, strips, digests, and numbers that are none.

use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::Dtype::{BF16, F16, F64, I32};
use xgraft_checkpoint::{CHUNK_BYTES, Digest, Error, WeightMatrix};
use xgraft_cpu_gemm::Source;

use crate::support::{self, Model, assert_says, tensor};

const NAME: &str = "model.layers.0.self_attn.q_proj.weight";
const MODULE: &str = "model.layers.0.self_attn.q_proj";

/// One weight of 37 columns whose bytes end inside the third chunk.
fn large() -> (Model, Vec<u8>) {
    let rows = (2 * CHUNK_BYTES + 1000) / (2 * 37);
    let weight = support::bf16(NAME, &[rows, 37]);
    let bytes = weight.bytes.clone();
    (Model::single(&[weight]), bytes)
}

#[test]
fn a_weight_is_loaded_in_stored_form_with_the_digest_of_its_bytes() {
    let (model, bytes) = large();
    let checkpoint = model.open();
    let weight = checkpoint.weight(MODULE).unwrap();
    let (matrix, digest) = checkpoint.load(weight).unwrap();
    assert_eq!(digest, Digest::of(&bytes));
    let data = matrix.as_bf16().unwrap();
    let back: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(back, bytes);
    assert_eq!((matrix.rows(), matrix.cols()), weight.matrix_shape());
}

#[test]
fn a_tensor_read_ahead_streams_the_same_bytes_as_a_small_one() {
    let bytes: Vec<u8> = (0..9 << 20).map(|i: u32| (i % 253) as u8).collect();
    let model = Model::single(&[tensor(
        "x",
        safetensors::Dtype::U8,
        &[9 << 20],
        bytes.clone(),
    )]);
    let checkpoint = model.open();
    let mut read = Vec::new();
    let digest = checkpoint.stream(checkpoint.tensor("x").unwrap(), |chunk| {
        assert!(chunk.len() <= CHUNK_BYTES);
        read.extend_from_slice(chunk);
        Ok(())
    });
    assert_eq!(digest.unwrap(), Digest::of(&bytes));
    assert_eq!(read, bytes);
}

#[test]
fn an_error_of_the_consumer_ends_the_stream() {
    let bytes = vec![0; 20 << 20];
    let model = Model::single(&[tensor("x", safetensors::Dtype::U8, &[20 << 20], bytes)]);
    let checkpoint = model.open();
    let mut chunks = 0;
    let result = checkpoint.stream(checkpoint.tensor("x").unwrap(), |_| {
        chunks += 1;
        Err(Error::NoSuchTensor {
            dir: "d".into(),
            tensor: "stop".into(),
        })
    });
    assert!(matches!(result, Err(Error::NoSuchTensor { .. })));
    assert_eq!(chunks, 1);
}

#[test]
fn a_file_that_is_cut_while_it_is_open_is_an_error_that_names_the_tensor() {
    let bytes = vec![0; 10 << 20];
    let model = Model::single(&[tensor("x", safetensors::Dtype::U8, &[10 << 20], bytes)]);
    let checkpoint = model.open();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(model.path("model.safetensors"))
        .unwrap();
    file.set_len(5 << 20).unwrap();
    let error = checkpoint
        .stream(checkpoint.tensor("x").unwrap(), |_| Ok(()))
        .unwrap_err();
    assert_says(&error, &["model.safetensors", "`x`", "end of the file"]);
}

#[test]
fn every_float_type_decodes() {
    let numbers = [1.5f32, -2.0, 0.25, 3.0, 0.0, -0.5];
    let encoded =
        |f: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|&x| f(x)).collect::<Vec<u8>>();
    let model = Model::single(&[
        tensor(
            "bf.weight",
            BF16,
            &[2, 3],
            encoded(&|x| bf16::from_f32(x).to_le_bytes().to_vec()),
        ),
        tensor(
            "f16.weight",
            F16,
            &[2, 3],
            encoded(&|x| f16::from_f32(x).to_le_bytes().to_vec()),
        ),
        tensor(
            "f32.weight",
            safetensors::Dtype::F32,
            &[2, 3],
            encoded(&|x| x.to_le_bytes().to_vec()),
        ),
        tensor(
            "f64.weight",
            F64,
            &[2, 3],
            encoded(&|x| f64::from(x).to_le_bytes().to_vec()),
        ),
    ]);
    let checkpoint = model.open();
    assert_eq!(checkpoint.weights().len(), 4);
    for weight in checkpoint.weights() {
        let (matrix, _) = checkpoint.load(weight).unwrap();
        assert_eq!(matrix.to_f32(), numbers, "{}", weight.tensor);
        let mut strip = Vec::new();
        checkpoint.read_rows(weight, 1..2, &mut strip).unwrap();
        assert_eq!(strip, numbers[3..], "{}", weight.tensor);
        assert_eq!(
            checkpoint.load_rows(weight, 1..2).unwrap().to_f32(),
            numbers[3..]
        );
    }
    let f16 = checkpoint.weight("f16").unwrap();
    assert!(matches!(
        checkpoint.load(f16).unwrap().0,
        WeightMatrix::F16 { .. }
    ));
}

#[test]
fn a_vector_is_one_row() {
    let model = Model::single(&[support::f32("model.norm.weight", &[3], &[1.0, 2.0, 3.0])]);
    let checkpoint = model.open();
    let (matrix, _) = checkpoint.load(&checkpoint.weights()[0]).unwrap();
    assert_eq!((matrix.rows(), matrix.cols()), (1, 3));
}

#[test]
fn nan_and_infinity_are_named_with_row_and_column() {
    let (model, mut bytes) = large();
    // The last element of the last row, and one before it that must be found first.
    let at = bytes.len() - 2;
    bytes[at..].copy_from_slice(&bf16::NAN.to_le_bytes());
    let first = CHUNK_BYTES + 74 * 5 + 8;
    let element = first / 2;
    bytes[2 * element..][..2].copy_from_slice(&bf16::NEG_INFINITY.to_le_bytes());
    let rows = bytes.len() / 74;
    model.file(
        "model.safetensors",
        &support::safetensors_bytes(&[tensor(NAME, BF16, &[rows, 37], bytes)]),
    );
    let checkpoint = model.open();
    let weight = checkpoint.weight(MODULE).unwrap();
    let error = checkpoint.load(weight).unwrap_err();
    let (row, column) = (element / 37, element % 37);
    assert_says(
        &error,
        &[
            "model.safetensors",
            NAME,
            "infinity",
            &format!("row {row}, column {column}"),
        ],
    );
    let mut strip = Vec::new();
    checkpoint.read_rows(weight, 0..row, &mut strip).unwrap();
    let error = checkpoint
        .read_rows(weight, row + 1..rows, &mut strip)
        .unwrap_err();
    assert_says(&error, &["NaN", &format!("row {}, column 36", rows - 1)]);
}

#[test]
fn a_double_beyond_f32_is_not_finite() {
    let bytes: Vec<u8> = [1.0f64, 1e300]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let model = Model::single(&[tensor("w.weight", F64, &[1, 2], bytes)]);
    let checkpoint = model.open();
    let error = checkpoint.load(&checkpoint.weights()[0]).unwrap_err();
    assert_says(&error, &["`w.weight`", "beyond f32", "row 0, column 1"]);
}

#[test]
fn integers_are_no_weights() {
    let model = Model::single(&[tensor("w.weight", I32, &[1, 2], vec![0; 8])]);
    let checkpoint = model.open();
    let error = checkpoint.load(&checkpoint.weights()[0]).unwrap_err();
    assert_says(&error, &["`w.weight`", "floating-point", "I32"]);
}

#[test]
#[should_panic(expected = "rows 1..3 of 2")]
fn rows_beyond_the_weight_are_a_mistake_of_the_caller() {
    let model = Model::single(&[support::bf16("w.weight", &[2, 2])]);
    let checkpoint = model.open();
    let _ = checkpoint.read_rows(&checkpoint.weights()[0], 1..3, &mut Vec::new());
}

#[test]
fn a_weight_of_another_checkpoint_is_refused() {
    let one = Model::single(&[support::bf16("a.weight", &[2, 2])]).open();
    let other = Model::single(&[support::bf16("b.weight", &[2, 2])]).open();
    assert!(matches!(
        other.load(&one.weights()[0]),
        Err(Error::NoSuchTensor { .. })
    ));
    let same_name = Model::single(&[support::bf16("a.weight", &[3, 2])]).open();
    let error = same_name
        .stream(one.tensor("a.weight").unwrap(), |_| Ok(()))
        .unwrap_err();
    assert_says(&error, &["`a.weight`", "[3, 2]", "[2, 2]"]);
}

#[test]
fn weights_come_in_natural_order_and_know_their_layer() {
    let names = [
        "model.layers.10.mlp.up_proj.weight",
        "model.layers.9.mlp.up_proj.weight",
        "model.norm.weight",
    ];
    let model = Model::single(&names.map(|n| support::bf16(n, &[2, 2])));
    let checkpoint = model.open();
    let layers: Vec<_> = checkpoint.weights().iter().map(|w| w.layer()).collect();
    assert_eq!(layers, [Some(9), Some(10), None]);
    assert_eq!(checkpoint.layer_count(), 11);
}

#[test]
fn a_module_with_a_bias_is_found_by_its_weight() {
    let model = Model::single(&[
        support::bf16("a.q_proj.bias", &[2]),
        support::bf16("a.q_proj.weight", &[2, 2]),
    ]);
    assert_eq!(
        model.open().weight("a.q_proj").unwrap().tensor,
        "a.q_proj.weight"
    );
}

proptest! {
    #[test]
    fn strips_are_the_rows_of_the_whole(rows in 1usize..20, cols in 0usize..9, at in 0usize..20, len in 0usize..20) {
        let (at, len) = (at.min(rows), len.min(rows - at.min(rows)));
        let model = Model::single(&[support::bf16("w.weight", &[rows, cols])]);
        let checkpoint = model.open();
        let weight = &checkpoint.weights()[0];
        let whole = checkpoint.load(weight).unwrap().0.to_f32();
        let mut strip = vec![9.0; 3];
        checkpoint.read_rows(weight, at..at + len, &mut strip).unwrap();
        prop_assert_eq!(&strip, &whole[at * cols..(at + len) * cols]);
    }
}
