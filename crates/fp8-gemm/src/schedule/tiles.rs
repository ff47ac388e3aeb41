//! The order of tiles.

/// Tiles of Y, numbered so that neighbours in time share rows of X and of W in the second-level cache: bands of `band` tiles
/// of m, and within a band tile after tile of n, each with all tiles of m of the band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Tiles along m.
    pub m: u32,
    /// Tiles along n.
    pub n: u32,
    /// Tiles of m in a band.
    pub band: u32,
}

impl Tiles {
    /// Number of tiles.
    pub const fn count(&self) -> u32 {
        self.m * self.n
    }

    /// Where a tile lies, along m and along n. The kernels' `tile_at` is this line by line.
    pub const fn at(&self, tile: u32) -> (u32, u32) {
        let in_band = self.band * self.n;
        let first = tile / in_band * self.band;
        let rest = self.m - first;
        let high = if rest < self.band { rest } else { self.band };
        let t = tile % in_band;
        (first + t % high, t / high)
    }

    /// Which tile lies there: the inverse of [`Self::at`].
    pub const fn index(&self, (i, j): (u32, u32)) -> u32 {
        let first = i / self.band * self.band;
        let rest = self.m - first;
        let high = if rest < self.band { rest } else { self.band };
        first * self.n + j * high + (i - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn every_place_is_one_tiles(m in 1u32..70, n in 1u32..70, band in 1u32..20) {
            let tiles = Tiles { m, n, band };
            let places: HashSet<_> = (0..m * n).map(|tile| tiles.at(tile)).collect();
            prop_assert_eq!(places.len() as u32, m * n);
            prop_assert!(places.iter().all(|&(i, j)| i < m && j < n));
            prop_assert!((0..m * n).all(|tile| tiles.index(tiles.at(tile)) == tile));
        }
    }

    #[test]
    fn a_wave_shares_its_operands() {
        // 132 blocks on 32 × 40 tiles with bands of 8: 8 tiles of m and 17 of n, not 32 and 5 or 4 and 40.
        let tiles = Tiles {
            m: 32,
            n: 40,
            band: 8,
        };
        let wave: Vec<_> = (0..132).map(|tile| tiles.at(tile)).collect();
        let rows: HashSet<u32> = wave.iter().map(|at| at.0).collect();
        let cols: HashSet<u32> = wave.iter().map(|at| at.1).collect();
        assert_eq!((rows.len(), cols.len()), (8, 17));
    }
}
