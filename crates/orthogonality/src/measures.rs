//! The quantities, each beside what chance gives.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The cosine of two matrices of m × n elements as vectors, and how unusual it is.
///
/// Two independent vectors, one of them isotropic, have a cosine of mean 0 and standard deviation 1/√(mn), so a cosine near
/// 0 is what unrelated matrices have and proves nothing by itself. Where the elements of both differ in size and the large ones meet,
/// independent matrices spread wider than that; the shuffled control shows by how much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cosine {
    /// ⟨X, Y⟩/(‖X‖‖Y‖).
    pub value: f64,
    /// The cosine in units of 1/√(mn).
    pub z: f64,
    /// The mean of |cosine| by chance: √(2/(π·mn)).
    pub chance: f64,
}

impl Cosine {
    /// From ⟨X, Y⟩, ‖X‖², ‖Y‖² and m·n. A matrix of zeros has the cosine 0.
    pub(crate) fn new(inner: f64, x2: f64, y2: f64, elements: usize) -> Self {
        let norms = (x2 * y2).sqrt();
        let value = if norms > 0.0 { inner / norms } else { 0.0 };
        let elements = elements as f64;
        Self {
            value,
            z: value * elements.sqrt(),
            chance: (2.0 / (PI * elements)).sqrt(),
        }
    }
}

/// How much of a matrix X lies in a subspace: of the columns' space, of the rows' space, or in both at once.
///
/// Beside each stands what an isotropic X would have: r/d for the energy and √(r/d) for the norm, with r the dimension of the
/// subspace and d that of the whole. Which of the two a "leakage of 25 %" means makes all the difference, so both are given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Leakage {
    /// ‖PX‖²/‖X‖².
    pub energy: f64,
    /// r/d.
    pub energy_chance: f64,
    /// ‖PX‖/‖X‖.
    pub norm: f64,
    /// √(r/d).
    pub norm_chance: f64,
}

impl Leakage {
    pub(crate) fn new(inside2: f64, whole2: f64, chance: f64) -> Self {
        Self::of_energy(inside2 / whole2, chance)
    }

    pub(crate) fn of_energy(energy: f64, chance: f64) -> Self {
        Self {
            energy,
            energy_chance: chance,
            norm: energy.sqrt(),
            norm_chance: chance.sqrt(),
        }
    }
}

/// The principal angles between two subspaces of dimensions r₁ and r₂ in d dimensions, by their cosines.
///
/// **Source** Björck and Golub 1973: the cosines are the singular values of U₁ᵀU₂.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Angles {
    /// Of the widest angle.
    pub min: f64,
    /// Mean over the min(r₁, r₂) angles.
    pub mean: f64,
    /// Of the narrowest angle.
    pub max: f64,
    /// Mean squared cosine, ‖U₁ᵀU₂‖²/min(r₁, r₂): 1 when one space holds the other, 0 when they are orthogonal.
    pub overlap: f64,
    /// The overlap of two random subspaces: max(r₁, r₂)/d.
    pub chance: f64,
}

/// 10·log₁₀(signal2/noise2); `None` where there is no noise at all.
pub(crate) fn decibel(signal2: f64, noise2: f64) -> Option<f64> {
    (noise2 > 0.0 && signal2 > 0.0).then(|| 10.0 * (signal2 / noise2).log10())
}
