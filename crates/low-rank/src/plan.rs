//! How wide the blocks are, and when to look at what they have found.

use crate::{Config, Stop};

/// The course of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Columns of the random start, and so of each block.
    pub(crate) block: usize,
    /// Blocks after which convergence is looked at for the first time.
    pub(crate) first_check: usize,
}

impl Plan {
    /// For at most `cap` singular values of a matrix whose shorter side is `short`.
    /// Nothing if the whole shorter side may as well be decomposed.
    pub(crate) fn new(config: &Config, cap: usize, short: usize) -> Option<Self> {
        let block = config.block.unwrap_or_else(|| block_for(cap)).min(short);
        let blocks = match config.stop {
            Stop::Rank(rank) => (9 * rank.min(cap)).div_ceil(4 * block).max(4),
            // The rank may turn out far below the cap.
            Stop::Energy { .. } | Stop::Edge { .. } => 4,
        };
        let first_check = config
            .min_depth
            .unwrap_or(blocks)
            .clamp(1, config.max_depth);
        let basis = block * (9 * cap).div_ceil(4 * block).max(4);
        (5 * basis < 3 * short).then_some(Self { block, first_check })
    }

    /// When to look again after `step` blocks were not enough.
    pub(crate) fn check_after(step: usize) -> usize {
        step + (step / 4).max(1)
    }
}

/// Narrow blocks get more out of each column, wide ones out of each pass over the matrix.
fn block_for(cap: usize) -> usize {
    match cap {
        0..=128 => 32,
        129..=320 => 64,
        _ => 128,
    }
}
