//! The definition of the product, to be read and to be tested against.

use crate::weights::{Coding, Scales, Weights};
use xgraft_fp8_codec::{E4m3, E5m2};

/// `x Wᵀ`, `[m, out]`.
///
/// An element is the sum of its terms `w[n, k] * x[m, k]`, each added with one rounding: lane `k mod 16` takes its terms in
/// order of `k`, and at the end lane `l` takes lane `l + 8`, then `l + 4`, `l + 2` and `l + 1`.
///
/// **Shapes** `x` is `[m, in]`, row-major.
///
/// # Panics
/// If `x` does not consist of rows of `in` elements.
pub fn product(weights: &Weights<'_>, x: &[f32]) -> Vec<f32> {
    let cols = weights.cols();
    assert!(x.len().is_multiple_of(cols), "rows of {cols} elements");
    let rows: Vec<Vec<f32>> = (0..weights.rows())
        .map(|row| decode(weights, row))
        .collect();
    let sums = |x| rows.iter().map(move |row| dot(row, x));
    x.chunks(cols).flat_map(sums).collect()
}

fn dot(w: &[f32], x: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (k, (w, x)) in w.iter().zip(x).enumerate() {
        lanes[k % 16] = w.mul_add(*x, lanes[k % 16]);
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// The elements of a row, each rounded to f32 once.
fn decode(weights: &Weights<'_>, row: usize) -> Vec<f32> {
    let bytes = weights.row(row);
    let number = |k: usize, width: usize| &bytes[k * width..][..width];
    let half = |k| u16::from_le_bytes([number(k, 2)[0], number(k, 2)[1]]);
    let element = |k: usize| match weights.coding() {
        Coding::F32 => f32::from_le_bytes(number(k, 4).try_into().expect("four bytes")),
        Coding::Bf16 => half::bf16::from_bits(half(k)).to_f32(),
        Coding::F16 => half::f16::from_bits(half(k)).to_f32(),
        Coding::E4m3(scales) => {
            E4m3::from_bits(bytes[k]).decode() * scale(weights, scales, row, k).0
        }
        Coding::E5m2(scales) => {
            E5m2::from_bits(bytes[k]).decode() * scale(weights, scales, row, k).0
        }
        Coding::Int8(scales) => {
            f32::from(bytes[k].cast_signed()) * scale(weights, scales, row, k).0
        }
        Coding::FourBit {
            levels,
            scales,
            zeros,
            middle,
        } => {
            let (scale, place) = scale(weights, scales, row, k);
            let zero = zeros.map_or(*middle, |zeros| f32::from(zeros[place]));
            let code = bytes[k / 2] >> (4 * (k % 2)) & 15;
            (levels[usize::from(code)] - zero) * scale
        }
    };
    (0..weights.cols()).map(element).collect()
}

/// The scale of an element, and its place.
fn scale(weights: &Weights<'_>, scales: &Scales<'_>, row: usize, col: usize) -> (f32, usize) {
    let per_row = weights.cols().div_ceil(scales.block_cols);
    let place = row / scales.block_rows * per_row + col / scales.block_cols;
    (scales.values[place], place)
}
