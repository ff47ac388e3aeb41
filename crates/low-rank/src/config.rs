//! What is asked for.

use crate::{Error, Result};

/// How a truncated SVD is to be computed.
///
/// ```
/// use xgraft_low_rank::{Config, Stop};
/// let config = Config { stop: Stop::Rank(64), seed: 7, ..Config::default() };
/// assert_eq!(config.block, None); // chosen by the rank
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many singular triplets.
    pub stop: Stop,
    /// Columns of a Krylov block; `None` chooses by the rank.
    pub block: Option<usize>,
    /// The iteration stops when the residual is estimated to be within this share of the optimum.
    pub tolerance: f64,
    /// Blocks of the basis after which convergence is looked at for the first time; `None` chooses by the rank.
    pub min_depth: Option<usize>,
    /// Most blocks of the basis.
    pub max_depth: usize,
    /// Start of the random numbers.
    pub seed: u64,
    /// Ranks at which [`Stop::Energy`] and [`Stop::Edge`] may end, ascending: what they ask for is rounded up to the next
    /// of these, within the cap. Empty for any rank. Engines have kernels for some ranks only.
    pub steps: &'static [usize],
}

impl Default for Config {
    /// Rank 64, to an estimated 0.03 % of the optimum.
    fn default() -> Self {
        Self {
            stop: Stop::Rank(64),
            block: None,
            tolerance: 3e-4,
            min_depth: None,
            max_depth: 24,
            seed: 0,
            steps: &[],
        }
    }
}

impl Config {
    /// The rank that is asked for, given the squares of the singular values in descending order.
    pub(crate) fn rank(&self, squares: &[f64], norm2: f64) -> usize {
        let rank = self.stop.rank(squares, norm2);
        match self.stop {
            Stop::Rank(_) => rank,
            Stop::Energy { cap, .. } | Stop::Edge { cap, .. } => {
                let next = self.steps.iter().copied().find(|&step| step >= rank);
                let rounded = if rank == 0 { 0 } else { next.unwrap_or(rank) };
                rounded.min(cap).min(squares.len())
            }
        }
    }

    /// Refuses values that make no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let unless = |good: bool, field, value, expected| {
            if good {
                Ok(())
            } else {
                Err(Error::Config {
                    field,
                    value,
                    expected,
                })
            }
        };
        match self.stop {
            Stop::Rank(rank) => unless(rank > 0, "rank", rank as f64, "at least 1")?,
            Stop::Energy { share, .. } => {
                unless(
                    (0.0..=1.0).contains(&share),
                    "share",
                    share,
                    "between 0 and 1",
                )?;
            }
            Stop::Edge { sigma, .. } => {
                unless(
                    sigma >= 0.0 && sigma.is_finite(),
                    "sigma",
                    sigma,
                    "finite and not negative",
                )?;
            }
        }
        unless(self.block != Some(0), "block", 0.0, "at least 1")?;
        unless(self.max_depth > 0, "max_depth", 0.0, "at least 1")?;
        unless(
            self.tolerance >= 0.0,
            "tolerance",
            self.tolerance,
            "at least 0",
        )
    }
}

/// When the truncated SVD has enough singular triplets.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stop {
    /// This many triplets, clamped to `min(rows, cols)`.
    Rank(usize),
    /// As few triplets as keep `share` of the squared Frobenius norm, but at most `cap`.
    Energy {
        /// Between 0 and 1.
        share: f64,
        /// Clamped to `min(rows, cols)`.
        cap: usize,
    },
    /// All triplets whose singular value is above `sigma`, but at most `cap`.
    ///
    /// With `sigma` at the edge of a noise spectrum, these are the triplets that stand out of the noise.
    Edge {
        /// In the units of the matrix.
        sigma: f64,
        /// Clamped to `min(rows, cols)`.
        cap: usize,
    },
}

impl Stop {
    /// The largest rank that it may ask for.
    pub(crate) fn cap(self) -> usize {
        match self {
            Self::Rank(cap) | Self::Energy { cap, .. } | Self::Edge { cap, .. } => cap,
        }
    }

    /// The rank that it asks for, given the squares of the singular values in descending order.
    pub(crate) fn rank(self, squares: &[f64], norm2: f64) -> usize {
        let rank = match self {
            Self::Rank(rank) => rank,
            Self::Energy { share, cap } => {
                let wanted = share * norm2;
                let mut kept = 0.0;
                let fits = squares.iter().position(|square| {
                    let enough = kept >= wanted;
                    kept += square;
                    enough
                });
                fits.unwrap_or(squares.len()).min(cap)
            }
            Self::Edge { sigma, cap } => squares.partition_point(|s| *s > sigma * sigma).min(cap),
        };
        rank.min(squares.len())
    }
}
