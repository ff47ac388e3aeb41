//! The 128-byte swizzle.

/// Bytes of a row of a tile: 128 codes, or 64 BF16.
pub const ROW: u32 = 128;
/// Bytes after which the swizzle repeats, and to which a tile must be aligned: 8 rows.
pub const ATOM: u32 = 1024;

/// Where the byte at a plain offset lies: bits 4 to 6 of the address are exchanged by exclusive or with bits 7 to 9.
///
/// So eight pieces of 16 bytes that stand below each other lie in different banks.
///
/// **Source** PTX ISA, "128-byte swizzling mode".
pub const fn swizzle128(offset: u32) -> u32 {
    offset ^ ((offset >> 7 & 7) << 4)
}

/// Where a byte of a tile lies that TMA brought with a box of 128-byte rows, from the tile's start.
pub const fn tile_offset(row: u32, byte: u32) -> u32 {
    swizzle128(row * ROW + byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn it_is_a_permutation_of_the_atom_and_its_own_inverse() {
        let places: HashSet<u32> = (0..ATOM).map(swizzle128).collect();
        assert_eq!(places.len(), 1024);
        assert!(places.iter().all(|&at| at < ATOM));
        assert!((0..8 * ATOM).all(|at| swizzle128(swizzle128(at)) == at));
    }

    #[test]
    fn eight_rows_of_one_column_lie_in_all_banks() {
        for piece in 0..8 {
            let banks: HashSet<u32> = (0..8)
                .map(|row| tile_offset(row, piece * 16) % 128 / 16)
                .collect();
            assert_eq!(banks.len(), 8);
        }
    }
}
