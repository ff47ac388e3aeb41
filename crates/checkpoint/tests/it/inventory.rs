//! Broken directories, listed to the end.

use xgraft_checkpoint::{Error, Inventory};

use crate::support::{Model, bf16, raw_file, safetensors_bytes};

fn texts(inventory: &Inventory) -> Vec<String> {
    inventory.problems.iter().map(Error::to_string).collect()
}

#[test]
fn a_whole_directory_has_no_problems_and_all_tensors() {
    let model = Model::single(&[bf16("b", &[2, 3]), bf16("a", &[4])]);
    let inventory = Inventory::read(model.dir()).unwrap();
    assert!(inventory.problems.is_empty() && inventory.unused.is_empty());
    let opened = model.open();
    let expected: Vec<_> = opened.tensors().cloned().collect();
    assert_eq!(inventory.tensors, expected);
}

#[test]
fn every_wrong_tensor_is_named_and_still_listed() {
    let header = r#"{
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F7", "shape": [1], "data_offsets": [8, 12]},
        "c": {"dtype": "F32", "shape": [3], "data_offsets": [12, 20]},
        "d": {"dtype": "F32", "shape": [2], "data_offsets": [20, 28]}
    }"#;
    let model = Model::raw(header, &[0; 24]);
    let inventory = Inventory::read(model.dir()).unwrap();
    let names: Vec<&str> = inventory.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "c", "d"]);
    let said = texts(&inventory);
    assert_eq!(said.len(), 3, "{said:?}");
    for (text, words) in said.iter().zip(["F7", "12 bytes", "truncated"]) {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn index_and_shards_are_compared_in_both_directions() {
    let model = Model::new();
    model.file(
        "one.safetensors",
        &safetensors_bytes(&[bf16("a", &[2]), bf16("x", &[2])]),
    );
    model.file(
        "two.safetensors",
        &safetensors_bytes(&[bf16("b", &[2]), bf16("a", &[2])]),
    );
    model.file("model.safetensors", &raw_file("{}", &[]));
    model.index(&[
        ("a", "one.safetensors"),
        ("b", "one.safetensors"),
        ("c", "two.safetensors"),
        ("d", "three.safetensors"),
    ]);
    let inventory = Inventory::read(model.dir()).unwrap();
    let said = texts(&inventory).join("\n");
    for words in [
        "three.safetensors`: expected this shard",
        "`a`: expected each tensor in one shard",
        "`b`: expected this tensor in one.safetensors, found it in two.safetensors",
        "`c`: expected this tensor in two.safetensors, found no shard",
        "`x`: expected this tensor of one.safetensors in the index, found no entry",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert_eq!(
        inventory.unused,
        [std::path::Path::new("model.safetensors")]
    );
}

#[test]
fn bytes_of_a_tensor_are_given_unchecked() {
    let mut nan = bf16("a", &[4]);
    nan.bytes[2..4].copy_from_slice(&0x7fc0u16.to_le_bytes());
    let model = Model::single(&[nan.clone()]);
    let checkpoint = model.open();
    let tensor = checkpoint.tensor("a").unwrap();
    let mut out = vec![9; 100];
    checkpoint.read_bytes(tensor, 2..6, &mut out).unwrap();
    assert_eq!(out, nan.bytes[2..6]);
    checkpoint.read_bytes(tensor, 8..8, &mut out).unwrap();
    assert!(out.is_empty());
}

#[test]
fn a_window_shows_the_bytes_wherever_they_begin() {
    let numbers: Vec<f32> = (0..9000).map(|i| i as f32).collect();
    let mut tensor = bf16("a", &[9000]);
    tensor.bytes = numbers
        .iter()
        .flat_map(|x| half::bf16::from_f32(*x).to_le_bytes())
        .collect();
    let model = Model::single(&[tensor.clone()]);
    let checkpoint = model.open();
    let info = checkpoint.tensor("a").unwrap();
    for range in [0..2, 0..18_000, 4095..4098, 17_999..18_000] {
        let window = checkpoint.window(info, range.clone()).unwrap();
        let (start, end) = (range.start as usize, range.end as usize);
        assert!(*window == tensor.bytes[start..end], "{range:?}");
    }
}

#[test]
fn a_window_into_a_file_that_was_cut_is_an_error() {
    let model = Model::single(&[bf16("a", &[9000])]);
    let checkpoint = model.open();
    let info = checkpoint.tensor("a").unwrap();
    let path = model.dir().join("model.safetensors");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(info.offset + 10_000).unwrap();
    assert!(checkpoint.window(info, 0..10_000).is_ok());
    let error = checkpoint.window(info, 0..18_000).unwrap_err().to_string();
    assert!(error.contains("cut while it was in use"), "{error}");
}
