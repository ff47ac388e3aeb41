//! A whole product in the order of the kernels.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::{E4M3_STEP, dot_bf16, dot_e4m3};
use crate::{BLOCK, Shape, schedule::Parts};

/// The operands of a product, as the kernels take them.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// m, n and k.
    pub shape: Shape,
    /// Codes of X, row-major `[m, k]`.
    pub x: &'a [u8],
    /// Scales of X, `[k_blocks, scale_stride]`: [`Shape::x_scale`].
    pub x_scales: &'a [f32],
    /// Codes of W, row-major `[n, k]`.
    pub w: &'a [u8],
    /// Scales of W, row-major `[n_blocks, k_blocks]`.
    pub w_scales: &'a [f32],
}

/// What an adapter adds: T·Bᵀ with T = s·X·Aᵀ, already shrunk.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    /// Rank.
    pub rank: u32,
    /// T, row-major `[m, rank]`.
    pub t: &'a [bf16],
    /// B, row-major `[n, rank]`.
    pub b: &'a [bf16],
}

/// Products in one accumulator, step after step from zero. The kernels promote what 128 of them give, a block of k; more show why.
///
/// **Shapes** as many codes of `a` as of `b`; what is missing of a ragged block is zero.
pub fn chain(a: &[u8], b: &[u8]) -> f32 {
    let steps = a.chunks(E4M3_STEP).zip(b.chunks(E4M3_STEP));
    steps.fold(0.0, |sum, (a, b)| dot_e4m3(a, b, sum))
}

/// One element of Y in f32.
///
/// Every block of k is promoted by one fused multiply-add with the product of its two scales; then come the slots of the adapter. What
/// is of one part is summed from zero, and the parts are added in their order.
///
/// # Panics
/// If an operand is shorter than the shape says.
pub fn element(
    operands: &Operands<'_>,
    adapter: Option<&Adapter<'_>>,
    parts: Parts,
    (i, j): (u32, u32),
) -> f32 {
    let shape = operands.shape;
    let k = shape.k as usize;
    let x = &operands.x[i as usize * k..][..k];
    let w = &operands.w[j as usize * k..][..k];
    let add = |sum: f32, slot: u32| match (slot.checked_sub(shape.k_blocks()), adapter) {
        (Some(slot), Some(adapter)) => expand(adapter, (i, j), slot, sum),
        _ => {
            let at = (slot * BLOCK) as usize;
            let end = (at + BLOCK as usize).min(x.len());
            let scale = operands.x_scales[shape.x_scale(i, slot)]
                * operands.w_scales[shape.w_scale(j, slot)];
            scale.mul_add(chain(&x[at..end], &w[at..end]), sum)
        }
    };
    let rank = adapter.map_or(0, |adapter| adapter.rank);
    let parts = parts.of(shape, rank, (i, j));
    let sum_of = |part: &Range<u32>| part.clone().fold(0f32, add);
    match parts.as_slice() {
        // Nothing is added to it, so that a zero keeps its sign.
        [whole] => sum_of(whole),
        parts => parts.iter().map(sum_of).fold(0f32, |sum, part| sum + part),
    }
}

/// `sum + T[i]·B[j]` of one slot, 16 of the rank at a time.
fn expand(adapter: &Adapter<'_>, (i, j): (u32, u32), slot: u32, sum: f32) -> f32 {
    let (rank, wide) = (adapter.rank as usize, BLOCK as usize / 2);
    let from = slot as usize * wide;
    let to = rank.min(from + wide);
    let (t, b) = (
        &adapter.t[i as usize * rank..][from..to],
        &adapter.b[j as usize * rank..][from..to],
    );
    let steps = t.chunks(16).zip(b.chunks(16));
    steps.fold(sum, |sum, (t, b)| dot_bf16(t, b, sum))
}

/// Y in f32, row-major `[m, n]`: [`element`] for each.
///
/// # Panics
/// As [`element`].
pub fn product(operands: &Operands<'_>, adapter: Option<&Adapter<'_>>, parts: Parts) -> Vec<f32> {
    let Shape { m, n, .. } = operands.shape;
    let all = (0..u64::from(m) * u64::from(n)).into_par_iter();
    all.map(|at| {
        let (i, j) = ((at / u64::from(n)) as u32, (at % u64::from(n)) as u32);
        element(operands, adapter, parts, (i, j))
    })
    .collect()
}
