//! How wide the blocks are, and when to look at what they have found.

use crate::Config;

/// The course of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Columns of the random start, and so of each block.
    pub(crate) block: usize,
    /// Blocks after which convergence is looked at for the first time.
    pub(crate) first_check: usize,
}

impl Plan {
    /// For the `rank` largest singular values of a matrix whose shorter side is `short`.
    /// Nothing if the whole shorter side may as well be decomposed.
    pub(crate) fn new(config: &Config, rank: usize, short: usize) -> Option<Self> {
        let block = config
            .block
            .unwrap_or_else(|| rank.div_ceil(2).next_multiple_of(32))
            .min(short);
        let chosen = (2 * rank).div_ceil(block).max(3);
        let first_check = config
            .min_depth
            .unwrap_or(chosen)
            .clamp(1, config.max_depth);
        let basis = block * first_check;
        (5 * basis < 3 * short).then_some(Self { block, first_check })
    }
}
