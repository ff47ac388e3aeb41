//! What is wrong with a matrix is said with its place.

use half::bf16;
use xgraft_block_scale::{
    BlockShape, Error, Format, Matrix, QuantizedMatrix, Recipe, ScaleDtype, WeightDtype, amax_rows,
    quantize, quantize_rows,
};

#[test]
fn the_first_weight_that_is_not_finite_is_named_whatever_the_block_shape() {
    let blocks = [
        BlockShape::B128,
        BlockShape::ROW,
        BlockShape::TENSOR,
        BlockShape::new(1, 16).expect("positive"),
    ];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut matrix = Matrix::zeros(300, 200);
        matrix.data[290 * 200 + 3] = f32::NAN;
        matrix.data[257 * 200 + 199] = bad;
        matrix.data[258 * 200] = bad;
        for block in blocks {
            let error =
                quantize(&matrix, &Recipe::f32(block, ScaleDtype::F32)).expect_err("not finite");
            let Error::NonFinite { row, col, value } = error else {
                panic!("{error}")
            };
            assert_eq!((row, col), (257, 199), "{block:?}");
            assert_eq!(value.to_bits(), bad.to_bits());
        }
    }
}

#[test]
fn a_message_names_row_column_and_value() {
    let weights = [1.0, f32::INFINITY].map(bf16::from_f32);
    let error =
        amax_rows(weights.as_slice(), 2, &BlockShape::TENSOR, &mut [0.0]).expect_err("not finite");
    let message = error.below_rows(128).to_string();
    assert_eq!(
        message,
        "element at row 128, column 1 is inf; expected a finite number"
    );
}

#[test]
fn a_scale_that_f16_cannot_hold_is_refused_with_its_block() {
    let mut matrix = Matrix::zeros(129, 129);
    matrix.data[128 * 129 + 128] = 1e9;
    let error =
        quantize(&matrix, &Recipe::f32(BlockShape::B128, ScaleDtype::F16)).expect_err("too large");
    assert_eq!(
        error.to_string(),
        "the scale of block (1, 1), for a largest magnitude of 1000000000, does not fit in F16"
    );
}

#[test]
fn compressed_tensors_arithmetic_wants_scales_in_the_type_of_the_weights() {
    let recipe = Recipe::compressed_tensors(BlockShape::B128);
    let error = quantize_rows([1.0f32].as_slice(), 1, &recipe, &mut [0], &mut [0.0])
        .expect_err("F32 weights");
    assert_eq!(
        error,
        Error::ScaleDtype {
            expected: WeightDtype::F32,
            found: ScaleDtype::Bf16
        }
    );
}

#[test]
fn codes_and_scales_must_follow_from_the_shape() {
    let new = |codes: usize, scales: usize| {
        let shape = (130, 10);
        QuantizedMatrix::new(
            shape,
            Format::E4m3,
            BlockShape::B128,
            vec![0; codes],
            vec![1.0; scales],
        )
    };
    assert!(new(1300, 2).is_ok());
    assert_eq!(
        new(1300, 1).expect_err("one scale").to_string(),
        "a 130 x 10 matrix needs 2 scales, found 1"
    );
    assert_eq!(
        new(1299, 2).expect_err("a code less").to_string(),
        "a 130 x 10 matrix needs 1300 codes, found 1299"
    );
    let huge = QuantizedMatrix::new(
        (usize::MAX, 2),
        Format::E4m3,
        BlockShape::B128,
        vec![],
        vec![],
    );
    assert!(matches!(huge, Err(Error::Count { what: "codes", .. })));
}

#[test]
fn codes_and_scales_that_are_not_finite_are_found() {
    let mut matrix = QuantizedMatrix::new(
        (2, 200),
        Format::E4m3,
        BlockShape::B128,
        vec![0x7e; 400],
        vec![1.0; 2],
    )
    .expect("a matrix");
    assert_eq!(matrix.check_finite(), Ok(()));
    matrix.codes[201] = 0xff;
    let error = matrix.check_finite().expect_err("NaN code");
    assert_eq!(
        error,
        Error::Code {
            row: 1,
            col: 1,
            code: 0xff
        }
    );
    assert_eq!(
        error.to_string(),
        "code at row 1, column 1 is 0xff, which is not a finite number"
    );
    matrix.scales[1] = f32::INFINITY;
    let error = matrix.check_finite().expect_err("infinite scale");
    assert_eq!(
        error.to_string(),
        "scale of block (0, 1) is inf; expected a finite number"
    );
    let infinite = QuantizedMatrix::new(
        (1, 1),
        Format::E5m2,
        BlockShape::B128,
        vec![0x7c],
        vec![1.0],
    )
    .expect("a matrix");
    assert!(infinite.check_finite().is_err());
}
