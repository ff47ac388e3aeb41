//! The shape of a product, and how its operands lie.

use crate::{Error, Result};

/// Elements of a row of X that share a scale, and rows and columns of W that do.
pub const BLOCK: u32 = 128;

/// Y[m, n] = X[m, k] · W[n, k]ᵀ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Tokens: rows of X and Y.
    pub m: u32,
    /// Rows of W, columns of Y.
    pub n: u32,
    /// Columns of X and W.
    pub k: u32,
}

impl Shape {
    /// A product with no empty side.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::TooLarge`] where a side does not fit into the i32 of a TMA coordinate.
    pub fn new(m: u32, n: u32, k: u32) -> Result<Self> {
        let shape = Self { m, n, k };
        if m == 0 || n == 0 || k == 0 {
            return Err(Error::Empty { shape });
        }
        let largest = m.max(n).max(k);
        if largest > 1 << 30 {
            return Err(Error::TooLarge { shape });
        }
        Ok(shape)
    }

    /// Blocks of 128 along k, a ragged last one included.
    pub const fn k_blocks(&self) -> u32 {
        self.k.div_ceil(BLOCK)
    }

    /// Blocks of 128 along n, a ragged last one included.
    pub const fn n_blocks(&self) -> u32 {
        self.n.div_ceil(BLOCK)
    }

    /// Elements from the scales of one block of k to those of the next: m rounded up to whole 16 bytes, which TMA asks for.
    pub const fn scale_stride(&self) -> u32 {
        self.m.next_multiple_of(4)
    }

    /// Where the scale of a token and a block of k lies.
    pub const fn x_scale(&self, token: u32, k_block: u32) -> usize {
        k_block as usize * self.scale_stride() as usize + token as usize
    }

    /// Where the scale of a row of W and a block of k lies.
    pub const fn w_scale(&self, row: u32, k_block: u32) -> usize {
        (row / BLOCK) as usize * self.k_blocks() as usize + k_block as usize
    }

    /// Whether TMA can read the operands: rows of whole 16 bytes.
    pub const fn has_tma_rows(&self) -> bool {
        self.k.is_multiple_of(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ragged_sides_have_scales_of_their_own() {
        let shape = Shape::new(5, 576, 1600).expect("right");
        assert_eq!((shape.k_blocks(), shape.n_blocks()), (13, 5));
        assert_eq!(shape.scale_stride(), 8);
        assert_eq!(shape.x_scale(4, 12), 100);
        assert_eq!(shape.w_scale(575, 12), 4 * 13 + 12);
    }

    #[test]
    fn empty_and_huge_sides_are_refused() {
        assert!(matches!(Shape::new(0, 1, 1), Err(Error::Empty { .. })));
        assert!(matches!(
            Shape::new(1, 1 << 31, 1),
            Err(Error::TooLarge { .. })
        ));
    }
}
