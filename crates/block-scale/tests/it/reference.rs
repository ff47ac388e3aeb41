//! The arithmetic in words, element by element: what the crate must give, whatever the shape.

use half::{bf16, f16};
use xgraft_block_scale::{
    Arithmetic, BlockShape, Format, QuantizedMatrix, Recipe, Rows, ScaleDtype,
};
use xgraft_fp8_codec::{Overflow, Ue8m0};

/// One element as f32.
pub(crate) fn element(rows: &Rows<'_>, at: usize) -> f32 {
    match rows {
        Rows::F32(data) => data[at],
        Rows::Bf16(data) => data[at].to_f32(),
        Rows::F16(data) => data[at].to_f32(),
    }
}

/// A number rounded to the type of the weights.
fn round_to_weights(rows: &Rows<'_>, x: f32) -> f32 {
    match rows {
        Rows::F32(_) => x,
        Rows::Bf16(_) => bf16::from_f32(x).to_f32(),
        Rows::F16(_) => f16::from_f32(x).to_f32(),
    }
}

fn stored_scale(rows: &Rows<'_>, recipe: &Recipe, amax: f32) -> f32 {
    let scale = amax / recipe.format.max();
    let rounded = match recipe.scale {
        ScaleDtype::F32 => scale,
        ScaleDtype::Bf16 => bf16::from_f32(scale).to_f32(),
        ScaleDtype::F16 => f16::from_f32(scale).to_f32(),
        ScaleDtype::Ue8m0 if scale == 0.0 => 0.0,
        ScaleDtype::Ue8m0 => Ue8m0::encode_ceil(scale).decode(),
    };
    match (rounded == 0.0, recipe.arithmetic, rows) {
        (false, ..) => rounded,
        (true, Arithmetic::F32, _) => 1.0,
        (true, Arithmetic::CompressedTensors, Rows::F32(_)) => 2f32.powi(-23),
        (true, Arithmetic::CompressedTensors, Rows::Bf16(_)) => 2f32.powi(-7),
        (true, Arithmetic::CompressedTensors, Rows::F16(_)) => 2f32.powi(-10),
    }
}

/// Quantizes a whole matrix.
pub(crate) fn quantize(rows: Rows<'_>, shape: (usize, usize), recipe: &Recipe) -> QuantizedMatrix {
    let block_of = |at: usize| recipe.block.block_of(shape, at / shape.1, at % shape.1);
    let grid = recipe.block.grid(shape.0, shape.1);
    let mut amax = vec![0f32; grid.0 * grid.1];
    for at in 0..rows.len() {
        let (i, j) = block_of(at);
        let largest = &mut amax[i * grid.1 + j];
        *largest = largest.max(element(&rows, at).abs());
    }
    let scales: Vec<f32> = amax
        .into_iter()
        .map(|amax| stored_scale(&rows, recipe, amax))
        .collect();
    let code = |at: usize| {
        let (i, j) = block_of(at);
        let quotient = element(&rows, at) / scales[i * grid.1 + j];
        let quotient = match recipe.arithmetic {
            Arithmetic::F32 => quotient,
            Arithmetic::CompressedTensors => round_to_weights(&rows, quotient),
        };
        recipe.format.encode(quotient, Overflow::Saturate)
    };
    let codes = (0..rows.len()).map(code).collect();
    QuantizedMatrix::new(shape, recipe.format, recipe.block, codes, scales).expect("a matrix")
}

/// Dequantizes one element.
pub(crate) fn value(matrix: &QuantizedMatrix, row: usize, col: usize) -> f32 {
    let shape = (matrix.rows, matrix.cols);
    let (i, j) = matrix.block.block_of(shape, row, col);
    let scale = matrix.scales[i * matrix.block.grid(shape.0, shape.1).1 + j];
    matrix.format.decode(matrix.codes[row * matrix.cols + col]) * scale
}

/// Recipes of every arithmetic, format and scale type for these weights.
pub(crate) fn recipes(block: BlockShape, weights: &Rows<'_>) -> Vec<Recipe> {
    let same = match weights {
        Rows::F32(_) => ScaleDtype::F32,
        Rows::Bf16(_) => ScaleDtype::Bf16,
        Rows::F16(_) => ScaleDtype::F16,
    };
    let mut recipes = Vec::new();
    for format in [Format::E4m3, Format::E5m2] {
        for scale in [
            ScaleDtype::F32,
            ScaleDtype::Bf16,
            ScaleDtype::F16,
            ScaleDtype::Ue8m0,
        ] {
            recipes.push(Recipe {
                format,
                block,
                scale,
                arithmetic: Arithmetic::F32,
            });
        }
        recipes.push(Recipe {
            format,
            block,
            scale: same,
            arithmetic: Arithmetic::CompressedTensors,
        });
    }
    recipes
}
