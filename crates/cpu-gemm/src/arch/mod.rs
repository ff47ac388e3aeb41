//! The tile kernels, one folder per instruction set, and the choice between them at run time.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use crate::Lines;
use crate::element::Element;
use crate::left::Layout;

/// An instruction set that this processor was seen to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(x86_64::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86_64::Avx2),
    Portable,
}

impl Isa {
    /// The fastest one of this processor.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(token) = x86_64::Avx512::detect() {
                return Self::Avx512(token);
            }
            if let Some(token) = x86_64::Avx2::detect() {
                return Self::Avx2(token);
            }
        }
        Self::Portable
    }

    /// All of this processor, for the tests.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(x86_64::Avx2::detect().map(Self::Avx2));
            all.extend(x86_64::Avx512::detect().map(Self::Avx512));
        }
        all
    }
}

/// One call of a tile kernel: `out[i, j] += chain over k of narrow(i, k) * wide(k, j)`.
///
/// One operand comes from a block of the left operand and the other from a strip of the panel, which has no gaps between
/// its terms: in [`Layout::Rows`] `narrow(i, k)` from the block and `wide(k, j)` from a strip as wide as the tile,
/// in [`Layout::Cols`] `narrow(i, k)` from a strip as wide as the tile is high and `wide(k, j)` from the block.
#[derive(Debug)]
pub(crate) struct Tile<'a, T> {
    /// Terms of the chain.
    pub(crate) terms: usize,
    /// The block from the tile's first element on; a full tile can be read.
    pub(crate) block: &'a [T],
    /// The strip.
    pub(crate) strip: &'a [T],
    /// The result from the tile's first element on.
    pub(crate) out: &'a mut [T],
    /// Distance of two rows of the result.
    pub(crate) ld: usize,
    /// Rows of the result to update.
    pub(crate) rows: usize,
    /// Columns of the result to update.
    pub(crate) cols: usize,
    /// Memory to fetch into the second-level cache meanwhile.
    pub(crate) ahead: &'a Lines,
}

impl<T: Element> Tile<'_, T> {
    /// Panics unless a kernel of `height` × `width` stays inside the slices.
    #[inline]
    fn check(&self, layout: Layout, (height, width): (usize, usize)) {
        if self.terms == 0 || self.rows == 0 || self.cols == 0 {
            return;
        }
        let (rows, cols) = (self.rows, self.cols);
        assert!(
            rows <= height && cols <= width && cols <= self.ld,
            "tile of {rows} x {cols}"
        );
        let (last, step) = match layout {
            Layout::Rows => ((height - 1) * T::ROWS_LD + self.terms - 1, width),
            Layout::Cols => ((self.terms - 1) * T::COLS_LD + width - 1, height),
        };
        assert!(last < self.block.len(), "block is too short");
        assert!(self.terms * step <= self.strip.len(), "strip is too short");
        assert!(
            (rows - 1) * self.ld + cols <= self.out.len(),
            "result is too short"
        );
    }
}

/// The functions of this crate that exist once per instruction set.
pub(crate) trait Kernels: Sized {
    /// Height and width of the tiles of an instruction set.
    fn tile_shape(isa: Isa, layout: Layout) -> (usize, usize);

    /// Runs one tile.
    fn tile(isa: Isa, layout: Layout, tile: Tile<'_, Self>);
}

macro_rules! kernels {
    ($element:ty, $avx512:ident, $avx2:ident) => {
        impl Kernels for $element {
            #[inline]
            fn tile_shape(isa: Isa, layout: Layout) -> (usize, usize) {
                match (isa, layout) {
                    #[cfg(target_arch = "x86_64")]
                    (Isa::Avx512(_), Layout::Rows) => x86_64::$avx512::rows::SHAPE,
                    #[cfg(target_arch = "x86_64")]
                    (Isa::Avx512(_), Layout::Cols) => x86_64::$avx512::cols::SHAPE,
                    #[cfg(target_arch = "x86_64")]
                    (Isa::Avx2(_), Layout::Rows) => x86_64::$avx2::rows::SHAPE,
                    #[cfg(target_arch = "x86_64")]
                    (Isa::Avx2(_), Layout::Cols) => x86_64::$avx2::cols::SHAPE,
                    (Isa::Portable, _) => portable::SHAPE,
                }
            }

            #[inline]
            fn tile(isa: Isa, layout: Layout, mut tile: Tile<'_, Self>) {
                tile.check(layout, Self::tile_shape(isa, layout));
                match (isa, layout) {
                    #[cfg(target_arch = "x86_64")]
                    (Isa::Avx512(token), Layout::Rows) => x86_64::$avx512::rows::run(token, tile),
                    #[cfg(target_arch = "x86_64")]
                    (Isa::Avx512(token), Layout::Cols) => x86_64::$avx512::cols::run(token, tile),
                    #[cfg(target_arch = "x86_64")]
                    (Isa::Avx2(token), Layout::Rows) => x86_64::$avx2::rows::run(token, tile),
                    #[cfg(target_arch = "x86_64")]
                    (Isa::Avx2(token), Layout::Cols) => x86_64::$avx2::cols::run(token, tile),
                    (Isa::Portable, _) => portable::run(layout, &mut tile),
                }
            }
        }
    };
}

kernels!(f32, avx512_f32, avx2_f32);
kernels!(f64, avx512_f64, avx2_f64);

/// `to[i] = tuned[i] - base[i]`, widened first.
#[inline]
pub(crate) fn bf16_diff(isa: Isa, tuned: &[half::bf16], base: &[half::bf16], to: &mut [f32]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => x86_64::convert::diff_avx512(token, tuned, base, to),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => x86_64::convert::diff_avx2(token, tuned, base, to),
        Isa::Portable => portable::bf16_diff(tuned, base, to),
    }
}

/// `to[i] = from[i]`, widened.
#[inline]
pub(crate) fn bf16_widen(isa: Isa, from: &[half::bf16], to: &mut [f32]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => x86_64::convert::widen_avx512(token, from, to),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => x86_64::convert::widen_avx2(token, from, to),
        Isa::Portable => portable::bf16_widen(from, to),
    }
}
