//! What tells wgmma where an operand lies.

use super::{ATOM, ROW, swizzle128};

/// A descriptor of an operand in shared memory whose rows run along k under the 128-byte swizzle.
///
/// Bits 0–13 the address / 16, 16–29 the leading offset / 16 (unused here, 1), 32–45 the offset between groups of eight rows / 16
/// (64: 1024 bytes), 62–63 the swizzle (1: 128 bytes).
///
/// **Source** PTX ISA, "Matrix descriptor format" of wgmma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor(pub u64);

/// All but the address.
const FIXED: u64 = 1 << 16 | ((ATOM as u64) >> 4) << 32 | 1 << 62;

impl Descriptor {
    /// The operand that begins at this byte of shared memory.
    pub const fn at(address: u32) -> Self {
        Self(FIXED | ((address & 0x3_ffff) >> 4) as u64)
    }

    /// The same rows, `steps` of 32 bytes further along k.
    #[must_use]
    pub const fn along_k(self, steps: u32) -> Self {
        Self(self.0 + 2 * steps as u64)
    }

    /// All but the address, as the kernels' constant.
    pub const fn fixed() -> u64 {
        FIXED
    }

    /// The address in shared memory of a byte of the step's operand: wgmma adds rows and groups of rows to the start, then swizzles
    /// the whole address.
    pub const fn byte(self, row: u32, byte: u32) -> u32 {
        let start = ((self.0 & 0x3fff) as u32) << 4;
        let group = ((self.0 >> 32 & 0x3fff) as u32) << 4;
        swizzle128(start + row / 8 * group + row % 8 * ROW + byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tile_offset;
    use proptest::prelude::*;

    #[test]
    fn the_fields_stand_where_the_isa_has_them() {
        assert_eq!(Descriptor::at(0x400).0, 0x4000_0040_0001_0040);
    }

    proptest! {
        #[test]
        fn wgmma_reads_the_byte_that_tma_wrote(
            tile in 0u32..200, first_row in 0u32..4, row in 0u32..64, step in 0u32..4, byte in 0u32..32,
        ) {
            // A tile anywhere in the 227 KiB, and the 64 rows of any warp-group in it.
            let base = tile * ATOM;
            let operand = Descriptor::at(base + first_row * 64 * ROW).along_k(step);
            let written = base + tile_offset(first_row * 64 + row, step * 32 + byte);
            prop_assert_eq!(operand.byte(row, byte), written);
        }

        #[test]
        fn a_tile_that_is_not_aligned_to_the_atom_is_read_wrongly(rows in 1u32..8) {
            let operand = Descriptor::at(rows * ROW);
            let wrong = (0..8).any(|row| operand.byte(row, 0) != rows * ROW + tile_offset(row, 0));
            prop_assert!(wrong);
        }
    }
}
