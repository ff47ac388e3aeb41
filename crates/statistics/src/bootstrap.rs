//! The stratified paired bootstrap: what two arms would have given on other questions of the same tasks.

use crate::Interval;
use rayon::prelude::*;

/// What is drawn as one: a question, or a cluster of questions that share a locus, a gene, a passage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// The sum of the scores in each of the two arms.
    pub scores: [f64; 2],
    /// How many questions it holds.
    pub questions: f64,
}

impl Unit {
    /// One question with its score in each arm: 0 or 1, or the mean of repeats.
    #[must_use]
    pub fn question(a: f64, b: f64) -> Self {
        Self {
            scores: [a, b],
            questions: 1.0,
        }
    }
}

/// The shares of both arms in one replicate, or in the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Over all questions.
    pub micro: [f64; 2],
    /// The mean over strata.
    pub r#macro: [f64; 2],
}

/// The shares of the data as they are.
///
/// # Panics
/// When there is no stratum, or an empty one.
#[must_use]
pub fn observed(strata: &[Vec<Unit>]) -> Shares {
    shares(strata, |_, index| index)
}

/// The shares of `replicates` sets of questions, each drawn with replacement within each stratum.
///
/// Replicate r's k-th draw depends on `seed`, r and k alone: results do not depend on threads, and more replicates only add to them.
///
/// # Panics
/// When there is no stratum, or an empty one.
#[must_use]
pub fn replicates(strata: &[Vec<Unit>], replicates: u32, seed: u64) -> Vec<Shares> {
    (0..replicates)
        .into_par_iter()
        .map(|replicate| {
            let key = mix(mix(seed.wrapping_add(GOLDEN)) ^ u64::from(replicate));
            let mut draw = 0_u64;
            shares(strata, |size, _| {
                draw += 1;
                below(mix(key ^ draw.wrapping_mul(GOLDEN)), size)
            })
        })
        .collect()
}

/// The percentile interval of `statistic` over replicates. Replicates where it is not finite are left out.
///
/// `None` when none is left.
#[must_use]
pub fn percentile(
    replicates: &[Shares],
    level: f64,
    statistic: impl Fn(&Shares) -> f64,
) -> Option<Interval> {
    let mut values: Vec<f64> = replicates.iter().map(statistic).collect();
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let side = (1.0 - level) / 2.0;
    Some(Interval {
        lo: quantile(&values, side)?,
        hi: quantile(&values, 1.0 - side)?,
    })
}

/// The quantile of sorted values, linear between neighbours.
fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let at = p * (sorted.len().checked_sub(1)? as f64);
    let low = at.floor() as usize;
    let high = (low + 1).min(sorted.len() - 1);
    Some(sorted[low] + (at - low as f64) * (sorted[high] - sorted[low]))
}

/// Adds up, for every place of every stratum, the unit that `pick(size, place)` chooses.
fn shares(strata: &[Vec<Unit>], mut pick: impl FnMut(usize, usize) -> usize) -> Shares {
    assert!(!strata.is_empty(), "at least one stratum");
    let (mut total, mut questions, mut means) = ([0.0; 2], 0.0, [0.0; 2]);
    for stratum in strata {
        assert!(!stratum.is_empty(), "strata that have questions");
        let (mut sum, mut n) = ([0.0; 2], 0.0);
        for place in 0..stratum.len() {
            let unit = &stratum[pick(stratum.len(), place)];
            sum = [sum[0] + unit.scores[0], sum[1] + unit.scores[1]];
            n += unit.questions;
        }
        for arm in 0..2 {
            total[arm] += sum[arm];
            means[arm] += sum[arm] / n;
        }
        questions += n;
    }
    Shares {
        micro: total.map(|sum| sum / questions),
        r#macro: means.map(|sum| sum / strata.len() as f64),
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A place below `size`, from 64 random bits; uneven by less than `size` / 2⁶⁴.
fn below(bits: u64, size: usize) -> usize {
    ((u128::from(bits) * size as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even() {
        let mut counts = [0_u32; 10];
        for draw in 0..100_000_u64 {
            counts[below(mix(7 ^ draw.wrapping_mul(GOLDEN)), 10)] += 1;
        }
        // Five standard deviations of a binomial of 100,000 and 0.1.
        assert!(
            counts.iter().all(|&n| n.abs_diff(10_000) < 475),
            "{counts:?}"
        );
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!(quantile(&[0.0, 1.0, 4.0], 0.75), Some(2.5));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
