//! The kernels in plain Rust: slow without hardware fused multiply-add, but with the same bits.

use half::bf16;

use super::Tile;
use crate::element::Element;
use crate::left::Layout;

/// Height and width of a tile.
pub(super) const SHAPE: (usize, usize) = (4, 16);

pub(super) fn run<T: Element>(layout: Layout, tile: &mut Tile<'_, T>) {
    for i in 0..tile.rows {
        let mut chains = [T::default(); SHAPE.1];
        for k in 0..tile.terms {
            let (narrow, wide) = match layout {
                Layout::Rows => (tile.block[i * T::ROWS_LD + k], &tile.strip[k * SHAPE.1..]),
                Layout::Cols => (tile.strip[k * SHAPE.0 + i], &tile.block[k * T::COLS_LD..]),
            };
            for (chain, wide) in chains.iter_mut().zip(wide) {
                *chain = narrow.mul_add(*wide, *chain);
            }
        }
        let out = &mut tile.out[i * tile.ld..][..tile.cols];
        for (out, chain) in out.iter_mut().zip(chains) {
            *out = *out + chain;
        }
    }
}

#[inline(always)]
pub(super) fn bf16_diff(tuned: &[bf16], base: &[bf16], to: &mut [f32]) {
    for ((to, t), b) in to.iter_mut().zip(tuned).zip(base) {
        *to = widen(*t) - widen(*b);
    }
}

#[inline(always)]
pub(super) fn bf16_widen(from: &[bf16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = widen(*from);
    }
}

/// bf16 to f32, exactly. A plain shift, unlike [`bf16::to_f32`], so that loops over it vectorize.
#[inline(always)]
fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}
