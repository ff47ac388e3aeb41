//! How an adapter's update lies to the difference that it should be.

use serde::{Deserialize, Serialize};

/// A pair that is this many standard deviations of chance from 0 is not unrelated.
const SIGNIFICANT: f64 = 6.0;

/// Two matrices of a model have a cosine of this size for many a reason; below it, a significant one proves no kinship yet.
const KIN: f64 = 0.02;

/// The direction and the size of the update L beside a difference X of weights, over m × n elements.
///
/// X is tuned − base, or tuned − original. Where X holds a noise far larger than what L is made of, the cosine is small
/// for a perfect L too; so what is judged is the projection, which such a noise leaves at 1 within `tolerance`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// ⟨X, L⟩/(‖X‖‖L‖).
    pub cosine: f64,
    /// The projection in units of its standard deviation by chance: what is left of X, were it white, gives ±1.
    pub z: f64,
    /// ⟨X, L⟩/‖L‖²: 1 for an L of the right sign and scale.
    pub projection: f64,
    /// How far from 1 the projection may be by chance: six standard deviations, at least 0.02.
    pub tolerance: f64,
}

/// What a direction says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lies {
    /// L is a part of X.
    Along,
    /// L is a part of X but for its size.
    AlongWithAnotherSize,
    /// L is a part of −X.
    Against,
    /// Neither, as far as can be told.
    Apart,
}

impl Direction {
    /// Of ⟨X, L⟩, ‖X‖², ‖L‖² and m·n. An L of zeros lies nowhere: all is 0.
    pub(super) fn new(inner: f64, x2: f64, update2: f64, elements: f64) -> Self {
        let tiny = f64::MIN_POSITIVE;
        let projection = if update2 > 0.0 { inner / update2 } else { 0.0 };
        // ‖X − pL‖² at the best p: the part of X that has nothing to do with L
        let left2 = (x2 - projection * inner).max(0.0);
        let chance = (left2 / elements.max(1.0) / update2.max(tiny)).sqrt();
        Self {
            cosine: inner / (x2 * update2).sqrt().max(tiny),
            z: projection / chance.max(tiny),
            projection,
            tolerance: (SIGNIFICANT * chance).max(0.02),
        }
    }

    /// What it says.
    pub(super) fn lies(&self) -> Lies {
        let significant = self.z.abs() > SIGNIFICANT;
        let right_size = (self.projection - 1.0).abs() <= self.tolerance;
        if significant && right_size {
            Lies::Along
        } else if !significant || self.cosine.abs() <= KIN {
            Lies::Apart
        } else if self.cosine < 0.0 {
            Lies::Against
        } else {
            Lies::AlongWithAnotherSize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L of norm 1 in X = L·size + a noise of norm `noise`, over 512 × 512 elements.
    fn lies(size: f64, noise: f64) -> Lies {
        let x2 = size * size + noise * noise;
        Direction::new(size, x2, 1.0, 512.0 * 512.0).lies()
    }

    #[test]
    fn a_right_pair_is_along_however_large_the_noise_until_chance_hides_it() {
        for noise in [0.0, 1.0, 50.0, 80.0] {
            assert_eq!(lies(1.0, noise), Lies::Along, "{noise}");
        }
        assert_eq!(lies(1.0, 200.0), Lies::Apart, "nobody can tell");
    }

    #[test]
    fn signs_sizes_and_strangers_are_told_apart() {
        assert_eq!(lies(-1.0, 10.0), Lies::Against);
        assert_eq!(lies(2.0, 10.0), Lies::AlongWithAnotherSize);
        assert_eq!(lies(0.01, 0.1), Lies::AlongWithAnotherSize);
        assert_eq!(lies(0.0, 1.0), Lies::Apart);
        // kin by a hundredth only
        assert_eq!(lies(0.013, 1.0), Lies::Apart);
    }
}
