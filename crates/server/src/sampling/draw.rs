//! One token out of a row of logits: temperature, min-p, top-k, top-p, and the inverse of what is left.

use super::isa::Isa;
use super::math::ln;
use super::passes::{STRIDE, Weigh, sum};
use super::select::{key, largest, token};
use crate::engine::{Sampling, TokenId};

/// Buckets of weights: 32 to each halving, over 64 halvings; what is smaller shares the last one.
const BUCKETS: usize = 64 * 32 + 1;

/// What [`draw`] works in, kept so that no token allocates.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    isa: Isa,
    keys: Vec<u64>,
    few: Vec<(TokenId, f64)>,
    weights: Vec<f64>,
    sums: Vec<f64>,
    tokens: Vec<TokenId>,
    logits: Vec<f32>,
}

/// The token whose interval of the cumulated probabilities, laid out by token number, holds `uniform`.
///
/// A weight is e^((logit − maximum)·(1/temperature)) in f64. The filters keep a beginning of the order "falling, equal ones
/// by number": tokens of at least `min_p` times the largest weight, of them the `top_k` first, of them the fewest whose
/// weights reach `top_p` of the sum of those. Exactly `top_k` are kept, of equal logits those of lower number.
pub(crate) fn draw(
    row: &[f32],
    maximum: f32,
    sampling: &Sampling,
    uniform: f64,
    scratch: &mut Scratch,
) -> TokenId {
    let weigh = Weigh {
        maximum: f64::from(maximum),
        sharpness: 1.0 / f64::from(sampling.temperature),
        min_p: f64::from(sampling.min_p),
    };
    let top_k = sampling.top_k as usize;
    let top_p = f64::from(sampling.top_p);
    if top_k > 0 && top_k < row.len() {
        draw_of_few(row, top_k, top_p, &weigh, uniform, scratch)
    } else {
        draw_of_all(row, top_p, &weigh, uniform, scratch)
    }
}

fn draw_of_few(
    row: &[f32],
    top_k: usize,
    top_p: f64,
    weigh: &Weigh,
    uniform: f64,
    scratch: &mut Scratch,
) -> TokenId {
    let Scratch { keys, few, .. } = scratch;
    largest(row, top_k, keys);
    few.clear();
    few.extend(keys.iter().map(|&key| {
        let token = token(key);
        (token, weigh.weight(row[token as usize]))
    }));
    let total: f64 = few.iter().map(|&(_, weight)| weight).sum();
    few.truncate(reaching(few, top_p * total, 0.0));
    few.sort_unstable_by_key(|&(token, _)| token);
    let total: f64 = few.iter().map(|&(_, weight)| weight).sum();
    let target = uniform * total;
    let at = position(few.iter().map(|&(_, weight)| weight), 0.0, target);
    few[at].0
}

/// How many of the first weights it takes to reach `target`, starting from `sum`.
fn reaching(weights: &[(TokenId, f64)], target: f64, mut sum: f64) -> usize {
    for (i, &(_, weight)) in weights.iter().enumerate() {
        sum += weight;
        if sum >= target {
            return i + 1;
        }
    }
    weights.len()
}

/// The first weight with which the sum passes `target`; the last one that is not 0 if rounding keeps it from it.
fn position(weights: impl Iterator<Item = f64>, mut sum: f64, target: f64) -> usize {
    let mut last = 0;
    for (i, weight) in weights.enumerate() {
        sum += weight;
        if weight > 0.0 {
            last = i;
            if sum > target {
                break;
            }
        }
    }
    last
}

/// Only the block of the row that holds the token is weighed twice.
fn draw_of_all(
    row: &[f32],
    top_p: f64,
    weigh: &Weigh,
    uniform: f64,
    scratch: &mut Scratch,
) -> TokenId {
    let Scratch {
        isa, weights, sums, ..
    } = scratch;
    isa.block_sums(row, weigh, sums);
    let total: f64 = sums.iter().sum();
    if top_p < 1.0 {
        return draw_of_nucleus(row, top_p, total, weigh, uniform, scratch);
    }
    let target = uniform * total;
    let block = position(sums.iter().copied(), 0.0, target);
    let before: f64 = sums[..block].iter().sum();
    let logits = &row[block * STRIDE..];
    isa.weights(&logits[..logits.len().min(STRIDE)], weigh, weights);
    let at = position(weights.iter().copied(), before, target);
    (block * STRIDE + at) as TokenId
}

/// Of a row whose weights sum to `total`, the fewest tokens that reach `top_p` of it, and one of them.
///
/// What is lighter than its share of the rest would be, if all the rest were equal, can only be of the rest: it is never
/// looked at.
fn draw_of_nucleus(
    row: &[f32],
    top_p: f64,
    total: f64,
    weigh: &Weigh,
    uniform: f64,
    scratch: &mut Scratch,
) -> TokenId {
    let Scratch {
        isa,
        tokens,
        logits,
        weights,
        few,
        ..
    } = scratch;
    let share = (1.0 - top_p) * total / row.len() as f64;
    isa.at_least(row, logit_below(share, weigh), tokens);
    logits.clear();
    logits.extend(tokens.iter().map(|&token| row[token as usize]));
    isa.weights(logits, weigh, weights);
    keep_nucleus(logits, weights, top_p * total, few);
    let target = uniform * sum(weights);
    tokens[position(weights.iter().copied(), 0.0, target)]
}

/// A logit whose weight is a little below `weight`, which is at most 1.
fn logit_below(weight: f64, weigh: &Weigh) -> f32 {
    let logarithm = ln((0.999 * weight).max(f64::MIN_POSITIVE));
    ((weigh.maximum + logarithm / weigh.sharpness) as f32).next_down()
}

/// Zeroes all weights but the fewest largest ones that reach `target`; of equal logits those that come first stay.
///
/// The weights are not sorted: their sums by bucket say in which bucket the boundary lies, and only that one is sorted.
fn keep_nucleus(logits: &[f32], weights: &mut [f64], target: f64, few: &mut Vec<(TokenId, f64)>) {
    let mut masses = [0.0; BUCKETS];
    for &weight in weights.iter() {
        masses[bucket(weight)] += weight;
    }
    let mut before = 0.0;
    let mut boundary = 0;
    while boundary + 1 < BUCKETS && before + masses[boundary] < target {
        before += masses[boundary];
        boundary += 1;
    }
    few.clear();
    let members = weights.iter().enumerate();
    let members = members.filter(|&(_, &weight)| bucket(weight) == boundary);
    few.extend(members.map(|(i, &weight)| (i as TokenId, weight)));
    few.sort_unstable_by_key(|&(at, _)| key(at, logits[at as usize]));
    let kept = reaching(few, target, before);
    for &(at, _) in &few[kept..] {
        weights[at as usize] = 0.0;
    }
    for weight in weights {
        *weight = if bucket(*weight) > boundary {
            0.0
        } else {
            *weight
        };
    }
}

/// The larger the weight, the lower; all of one weight are in one bucket.
#[inline]
fn bucket(weight: f64) -> usize {
    let below_one = 1.0_f64.to_bits() - weight.to_bits();
    ((below_one >> 47) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests;
