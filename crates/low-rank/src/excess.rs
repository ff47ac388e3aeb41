//! How far a factorization is from the best one of its rank.

/// Relative excess of `‖D - D_r‖` over the optimum of rank `r`: 0.0005 is 0.05 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Excess {
    /// A bound that holds.
    Certified {
        /// The excess is at most this.
        at_most: f64,
    },
    /// No bound is known, but this is what the convergence suggests.
    Estimated {
        /// The excess is about this.
        about: f64,
    },
}

impl Excess {
    /// The number, whatever its standing.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Certified { at_most } => at_most,
            Self::Estimated { about } => about,
        }
    }
}

/// `sqrt(achieved / optimum) - 1` of two squared residuals.
pub(crate) fn relative(achieved: f64, optimum: f64) -> f64 {
    if achieved <= optimum {
        0.0
    } else if optimum <= 0.0 {
        f64::INFINITY
    } else {
        (achieved / optimum).sqrt() - 1.0
    }
}
