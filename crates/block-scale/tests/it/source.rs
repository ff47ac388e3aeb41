//! Matrices as operands of a product.

use proptest::prelude::*;
use xgraft_block_scale::{Matrix, Recipe, ScaleDtype, dequantize, quantize};
use xgraft_cpu_gemm::Source;

use crate::shapes::{block_shapes, weights};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_rectangle_is_packed_as_the_dequantized_matrix_has_it(
        (rows, cols, data) in weights(), block in block_shapes(),
        cuts in (0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64), gap in 0usize..9,
    ) {
        let matrix = Matrix::new(rows, cols, data);
        let quantized = quantize(&matrix, &Recipe::f32(block, ScaleDtype::F32)).expect("finite");
        let values = dequantize(&quantized);
        let part = |len: usize, a: f64, b: f64| {
            let first = (a * len as f64) as usize;
            first..first + (b * (len - first) as f64).ceil() as usize
        };
        let (part_rows, part_cols) = (part(rows, cuts.0, cuts.1), part(cols, cuts.2, cuts.3));
        let ld = part_cols.len() + gap;
        let mut from_codes = vec![7.0; part_rows.len() * ld];
        let mut from_values = from_codes.clone();
        quantized.pack(part_rows.clone(), part_cols.clone(), &mut from_codes, ld);
        values.pack(part_rows.clone(), part_cols.clone(), &mut from_values, ld);
        prop_assert_eq!(&from_codes, &from_values);
        for (i, row) in part_rows.enumerate() {
            for (j, col) in part_cols.clone().enumerate() {
                prop_assert_eq!(from_values[i * ld + j], values.data[row * cols + col]);
            }
            let between = &from_codes[i * ld + part_cols.len()..(i + 1) * ld];
            prop_assert!(between.iter().all(|&x| x == 7.0));
        }
        prop_assert_eq!((Source::rows(&quantized), Source::cols(&quantized)), (rows, cols));
    }
}

#[test]
#[should_panic(expected = "leaves a 2 x 3 matrix")]
fn a_rectangle_outside_the_matrix_is_refused() {
    Matrix::zeros(2, 3).pack(0..3, 0..3, &mut [0.0; 9], 3);
}
