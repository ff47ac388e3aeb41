//! Hostile and damaged safetensors headers.

use proptest::prelude::*;
use xgraft_checkpoint::{Checkpoint, Error};

use crate::support::{Model, assert_says, bf16, raw_file, safetensors_bytes, tensor};

/// Opens a model whose only file has this header and so many zero bytes of data.
fn refused(header: &str, data_bytes: usize) -> Error {
    let error = Model::raw(header, &vec![0; data_bytes]).error();
    assert_says(&error, &["model.safetensors", "expected", "found"]);
    assert!(error.hint().is_some());
    error
}

fn one(dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(
        r#"{{"w.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}}}"#
    )
}

#[test]
fn a_valid_header_is_accepted() {
    let model = Model::raw(&one("BF16", "[2,3]", 0, 12), &[0; 12]);
    let checkpoint = model.open();
    let info = checkpoint.tensor("w.weight").unwrap();
    assert_eq!((info.shape.as_slice(), info.bytes), ([2, 3].as_slice(), 12));
}

#[test]
fn a_huge_header_length_costs_nothing() {
    for length in [u64::MAX, u64::MAX - 8, 1 << 40, 100_000_001] {
        let model = Model::new();
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        model.file("model.safetensors", &bytes);
        assert_says(
            &model.error(),
            &[
                "model.safetensors",
                "at most 100000000",
                &length.to_string(),
            ],
        );
    }
}

#[test]
fn a_header_longer_than_the_file_is_a_truncated_file() {
    let model = Model::new();
    let bytes = raw_file(&one("BF16", "[2,3]", 0, 12), &[0; 12]);
    model.file("model.safetensors", &bytes[..20]);
    assert_says(&model.error(), &["model.safetensors", "truncated"]);
    model.file("model.safetensors", &bytes[..5]);
    assert_says(&model.error(), &["at least 8 bytes", "5 bytes"]);
    model.file("model.safetensors", b"");
    assert_says(&model.error(), &["at least 8 bytes", "0 bytes"]);
}

#[test]
fn missing_data_names_the_tensor_and_both_sizes() {
    let error = refused(&one("BF16", "[2,3]", 0, 12), 11);
    assert_says(
        &error,
        &["w.weight", "11 bytes after the header", "[0, 12]"],
    );
}

#[test]
fn bytes_after_the_last_tensor_are_refused() {
    let error = refused(&one("BF16", "[2,3]", 0, 12), 13);
    assert_says(
        &error,
        &["12 bytes of tensors", "13 bytes after the header"],
    );
}

#[test]
fn an_overlap_and_a_hole_name_the_tensor() {
    let two = |start: u64| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},"b":{{"dtype":"U8","shape":[4],"data_offsets":[{start},{}]}}}}"#,
            start + 4
        )
    };
    assert_says(&refused(&two(2), 8), &["`b`", "overlap"]);
    assert_says(&refused(&two(0), 8), &["overlap"]);
    assert_says(&refused(&two(6), 10), &["`b`", "hole"]);
}

#[test]
fn offsets_that_fall_or_leave_the_file_are_refused() {
    assert_says(
        &refused(&one("U8", "[4]", 8, 4), 8),
        &["`w.weight`", "[8, 4]"],
    );
    assert_says(
        &refused(&one("U8", "[4]", 4, 8), 4),
        &["`w.weight`", "within the 4 bytes"],
    );
    assert_says(
        &refused(&one("U8", "[4]", u64::MAX - 4, u64::MAX), 4),
        &["`w.weight`"],
    );
}

#[test]
fn a_shape_that_overflows_is_refused() {
    for shape in [
        "[4294967296,4294967296]",
        "[18446744073709551615,2]",
        "[9223372036854775808]",
        "[0,18446744073709551615,18446744073709551615]",
    ] {
        assert_says(
            &refused(&one("F32", shape, 0, 4), 4),
            &["`w.weight`", "fits in 64 bits"],
        );
    }
}

#[test]
fn a_size_that_is_not_shape_times_type_is_refused() {
    let error = refused(&one("F32", "[2,3]", 0, 12), 12);
    assert_says(
        &error,
        &["`w.weight`", "24 bytes", "[2, 3]", "F32", "12 bytes"],
    );
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert_says(&refused(header, 2), &["`a`", "twice"]);
    assert_says(
        &refused(r#"{"__metadata__":{},"__metadata__":{}}"#, 0),
        &["__metadata__", "twice"],
    );
    let field = r#"{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}"#;
    assert_says(&refused(field, 1), &["`a`", "`shape` twice"]);
}

#[test]
fn what_is_no_header_is_refused() {
    assert_says(&refused("", 0), &["JSON object"]);
    assert_says(&refused("[]", 0), &["JSON object"]);
    assert_says(&refused("{} {}", 0), &["JSON object", "trailing"]);
    assert_says(&refused(&"[".repeat(5000), 0), &["JSON object"]);
    assert_says(&refused(r#"{"a":1}"#, 0), &["`a`"]);
    assert_says(
        &refused(r#"{"a":{"dtype":"U8","shape":[1]}}"#, 1),
        &["`a`", "data_offsets"],
    );
    assert_says(
        &refused(
            r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
            1,
        ),
        &["`a`"],
    );
    assert_says(
        &refused(
            r#"{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}"#,
            1,
        ),
        &["`a`"],
    );
    assert_says(
        &refused(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}"#, 1),
        &["`a`"],
    );
    assert_says(
        &refused(r#"{"__metadata__":{"a":1}}"#, 0),
        &["__metadata__"],
    );
}

#[test]
fn an_unknown_type_is_named() {
    assert_says(
        &refused(&one("F4", "[2]", 0, 1), 1),
        &["`w.weight`", "\"F4\""],
    );
}

#[test]
fn a_header_that_is_not_utf8_is_refused() {
    let model = Model::new();
    let mut bytes = raw_file(&one("U8", "[1]", 0, 1), &[0]);
    bytes[10] = 0xff;
    model.file("model.safetensors", &bytes);
    assert_says(&model.error(), &["UTF-8"]);
}

#[test]
fn a_list_of_dimensions_without_end_is_refused() {
    let shape = format!("[{}1]", "1,".repeat(100_000));
    assert_says(
        &refused(&one("U8", &shape, 0, 1), 1),
        &["`w.weight`", "at most 16"],
    );
}

#[test]
fn empty_tensors_and_scalars_are_valid() {
    let model = Model::single(&[
        bf16("empty", &[0, 7]),
        tensor("scalar", safetensors::Dtype::F32, &[], vec![0; 4]),
    ]);
    let checkpoint = model.open();
    assert_eq!(checkpoint.tensor("empty").unwrap().bytes, 0);
    assert_eq!(checkpoint.tensor("scalar").unwrap().matrix_shape(), (1, 1));
}

#[test]
fn a_directory_in_place_of_the_file_is_an_error() {
    let model = Model::new();
    std::fs::create_dir(model.path("model.safetensors")).unwrap();
    assert_says(&model.error(), &["model.safetensors"]);
}

proptest! {
    /// What the `safetensors` library writes is read back, whatever the names, types and shapes.
    #[test]
    fn files_of_the_safetensors_library_open(
        shapes in prop::collection::btree_map("[a-zA-Z0-9_.\u{e9}\"\\\\]{1,12}", (0usize..4, prop::collection::vec(0usize..5, 0..4)), 0..8)
    ) {
        use safetensors::Dtype::{BF16, F32, I8, I64};
        let tensors: Vec<_> = shapes
            .iter()
            .filter(|(name, _)| !name.ends_with("qweight") && !name.ends_with("qzeros"))
            .map(|(name, (kind, shape))| {
                let dtype = [BF16, F32, I8, I64][*kind];
                let count = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                tensor(name, dtype, shape, vec![1; count])
            })
            .collect();
        let model = Model::single(&tensors);
        let checkpoint = Checkpoint::open(model.dir()).unwrap();
        prop_assert_eq!(checkpoint.tensors().len(), tensors.len());
        for t in &tensors {
            let info = checkpoint.tensor(&t.name).unwrap();
            prop_assert_eq!(&info.shape, &t.shape);
            let mut bytes = Vec::new();
            checkpoint.stream(info, |chunk| { bytes.extend_from_slice(chunk); Ok(()) }).unwrap();
            prop_assert_eq!(&bytes, &t.bytes);
        }
    }

    /// A file that was cut anywhere is refused, and never read past its end.
    #[test]
    fn a_file_cut_anywhere_is_refused(cut in 0usize..400) {
        let whole = safetensors_bytes(&[bf16("a.weight", &[3, 5]), bf16("b.weight", &[7])]);
        prop_assume!(cut < whole.len());
        let model = Model::new();
        model.file("model.safetensors", &whole[..cut]);
        let error = model.error();
        prop_assert!(matches!(error, Error::Header { .. } | Error::Tensor { .. }), "{}", error);
    }
}
