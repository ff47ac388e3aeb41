//! Any matrix, any block shape, any type: against the reference.

use half::{bf16, f16};
use proptest::prelude::*;
use xgraft_block_scale::{
    BlockShape, Extent, Matrix, QuantizedMatrix, Recipe, Rows, ScaleDtype, dequantize,
    dequantize_rows, quantize, quantize_rows, round_trip,
};

use crate::reference::{self, recipes};

pub(crate) fn block_shapes() -> impl Strategy<Value = BlockShape> {
    let extent = || {
        prop_oneof![
            Just(Extent::All),
            (1usize..80).prop_map(|n| Extent::Of(n.try_into().expect("positive"))),
        ]
    };
    prop_oneof![
        Just(BlockShape::B128),
        Just(BlockShape::ROW),
        Just(BlockShape::TENSOR),
        Just(BlockShape::new(1, 128).expect("positive")),
        (extent(), extent()).prop_map(|(rows, cols)| BlockShape { rows, cols }),
    ]
}

/// A matrix of up to 200 x 300 normal-looking weights with blocks of zeros, tiny and large numbers.
pub(crate) fn weights() -> impl Strategy<Value = (usize, usize, Vec<f32>)> {
    let shape = (1usize..200, 1usize..300, any::<u64>(), 0..4u32);
    shape.prop_map(|(rows, cols, seed, kind)| {
        let mut state = seed | 1;
        let mut uniform = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let mut weight = |at: usize| {
            let x = (uniform() + uniform() + uniform()) * 0.05;
            match (kind, at % cols / 40 % 4) {
                (1, 1) => 0.0,
                (1, 2) => x * 2f32.powi(-120),
                (1, 3) => x * 2f32.powi(13),
                (2, _) if at.is_multiple_of(7) => 0.0,
                (3, _) => f32::from_bits(x.to_bits() & 0xffff_0000) * 2f32.powi(-133),
                _ => x,
            }
        };
        (rows, cols, (0..rows * cols).map(&mut weight).collect())
    })
}

fn check(
    rows: Rows<'_>,
    shape: (usize, usize),
    recipe: &Recipe,
) -> Result<QuantizedMatrix, TestCaseError> {
    let expected = reference::quantize(rows, shape, recipe);
    let mut codes = vec![0; expected.codes.len()];
    let mut scales = vec![0.0; expected.scales.len()];
    quantize_rows(rows, shape.1, recipe, &mut codes, &mut scales).expect("finite weights");
    prop_assert_eq!(&scales, &expected.scales, "scales by {:?}", recipe);
    prop_assert_eq!(&codes, &expected.codes, "codes by {:?}", recipe);
    Ok(expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_recipe_gives_the_codes_and_scales_of_the_reference((rows, cols, data) in weights(), block in block_shapes()) {
        let narrow: Vec<bf16> = data.iter().map(|&x| bf16::from_f32(x)).collect();
        let half: Vec<f16> = data.iter().map(|&x| f16::from_f32(x)).collect();
        for source in [Rows::F32(&data), Rows::Bf16(&narrow), Rows::F16(&half)] {
            for recipe in recipes(block, &source) {
                check(source, (rows, cols), &recipe)?;
            }
        }
    }

    #[test]
    fn every_value_is_its_code_times_the_scale_of_its_block((rows, cols, data) in weights(), block in block_shapes()) {
        let source = Rows::F32(&data);
        let quantized = reference::quantize(source, (rows, cols), &Recipe::f32(block, ScaleDtype::F32));
        let matrix = dequantize(&quantized);
        let mut narrow = vec![bf16::ZERO; rows * cols];
        dequantize_rows(quantized.as_rows(), narrow.as_mut_slice());
        for (at, (wide, narrow)) in matrix.data.iter().zip(&narrow).enumerate() {
            let expected = reference::value(&quantized, at / cols, at % cols);
            prop_assert_eq!(wide.to_bits(), expected.to_bits());
            prop_assert_eq!(narrow.to_bits(), bf16::from_f32(expected).to_bits());
        }
    }

    #[test]
    fn an_error_is_at_most_half_a_step((rows, cols, data) in weights(), block in block_shapes()) {
        let matrix = Matrix::new(rows, cols, data);
        let quantized = quantize(&matrix, &Recipe::f32(block, ScaleDtype::F32)).expect("finite weights");
        let back = dequantize(&quantized);
        let (_, grid_cols) = block.grid(rows, cols);
        for (at, (&x, &y)) in matrix.data.iter().zip(&back.data).enumerate() {
            let (i, j) = block.block_of((rows, cols), at / cols, at % cols);
            let scale = f64::from(quantized.scales[i * grid_cols + j]);
            // Half a step is 1/16 of a normal number's value, or 2^-10 of the scale below.
            let limit = (f64::from(x).abs() / 16.0).max(scale * 2f64.powi(-10)) * (1.0 + 1e-6);
            // Scales that are subnormal are too coarse for a relative bound.
            if scale > 1e-37 {
                prop_assert!((f64::from(x) - f64::from(y)).abs() <= limit, "{} became {}", x, y);
            }
        }
        let trip = round_trip((&matrix).into(), &quantized);
        prop_assert_eq!(trip.elements, rows * cols);
        let error2: f64 = matrix.data.iter().zip(&back.data).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
        prop_assert!((trip.error2 - error2).abs() <= 1e-9 * error2);
    }
}

#[test]
fn ragged_last_blocks_use_their_own_scales() {
    let mut matrix = Matrix::zeros(130, 130);
    for row in 0..130 {
        for col in 0..130 {
            let corner = match (row < 128, col < 128) {
                (true, true) => 1.0,
                (true, false) => 2.0,
                (false, true) => 4.0,
                (false, false) => 8.0,
            };
            matrix.data[row * 130 + col] = 448.0 * corner;
        }
    }
    let quantized =
        quantize(&matrix, &Recipe::f32(BlockShape::B128, ScaleDtype::F32)).expect("finite");
    assert_eq!(quantized.scales, [1.0, 2.0, 4.0, 8.0]);
    assert!(quantized.codes.iter().all(|&code| code == 0x7e));
    assert_eq!(dequantize(&quantized), matrix);
}

#[test]
fn a_block_larger_than_the_matrix_is_the_whole_matrix() {
    let matrix = Matrix::new(3, 70, (0..210).map(|i| i as f32).collect());
    let whole =
        quantize(&matrix, &Recipe::f32(BlockShape::TENSOR, ScaleDtype::F32)).expect("finite");
    for (rows, cols) in [(usize::MAX, usize::MAX), (4, usize::MAX), (usize::MAX, 71)] {
        let block = BlockShape::new(rows, cols).expect("positive");
        let quantized = quantize(&matrix, &Recipe::f32(block, ScaleDtype::F32)).expect("finite");
        assert_eq!(quantized.codes, whole.codes);
        assert_eq!(quantized.scales, whole.scales);
        assert_eq!(dequantize(&quantized), dequantize(&whole));
    }
}

#[test]
fn a_matrix_without_elements_has_no_codes() {
    for shape in [(0, 0), (0, 5), (5, 0)] {
        let matrix = Matrix::zeros(shape.0, shape.1);
        for block in [BlockShape::B128, BlockShape::ROW, BlockShape::TENSOR] {
            let quantized =
                quantize(&matrix, &Recipe::f32(block, ScaleDtype::F32)).expect("nothing");
            assert_eq!(dequantize(&quantized), matrix);
            assert_eq!(
                round_trip((&matrix).into(), &quantized).relative_error(),
                0.0
            );
        }
    }
}

#[test]
fn an_ue8m0_scale_never_saturates() {
    let data: Vec<f32> = (1..=4096).map(|i| i as f32 * 0.37).collect();
    let matrix = Matrix::new(64, 64, data);
    for block in [BlockShape::new(8, 8).expect("positive"), BlockShape::ROW] {
        let quantized = quantize(&matrix, &Recipe::f32(block, ScaleDtype::Ue8m0)).expect("finite");
        assert!(quantized.scales.iter().all(|s| s.log2().fract() == 0.0));
        assert_eq!(round_trip((&matrix).into(), &quantized).saturated, 0);
    }
}

#[test]
fn a_scale_rounded_down_saturates_and_the_round_trip_counts_it() {
    // 1.003 is rounded to 1 in BF16, so the quotient 449.3 is above 448.
    let matrix = Matrix::new(1, 3, vec![448.0 * 1.003, 0.0, 1e-9]);
    let quantized =
        quantize(&matrix, &Recipe::f32(BlockShape::TENSOR, ScaleDtype::Bf16)).expect("finite");
    assert_eq!(quantized.scales, [1.0]);
    assert_eq!(quantized.codes, [0x7e, 0x00, 0x00]);
    let trip = round_trip((&matrix).into(), &quantized);
    assert_eq!((trip.saturated, trip.zeros, trip.elements), (1, 1, 3));
    assert!((trip.max_abs_error - 448.0 * 0.003).abs() < 1e-3);
}
