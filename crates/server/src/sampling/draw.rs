//! One token out of a row of logits: temperature, min-p, top-k, top-p, and the inverse of what is left.

use super::math::exp;
use super::select::{key, largest, token};
use super::sum;
use crate::engine::{Sampling, TokenId};

/// Buckets of weights: 32 to each halving, over 64 halvings; what is smaller shares the last one.
const BUCKETS: usize = 64 * 32 + 1;

/// Weights are summed by so many, and the sums searched first.
const STRIDE: usize = 1024;

/// What [`draw`] works in, kept so that no token allocates.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    keys: Vec<u64>,
    few: Vec<(TokenId, f64)>,
    weights: Vec<f64>,
    sums: Vec<f64>,
}

/// The token whose interval of the cumulated probabilities, laid out by token number, holds `uniform`.
///
/// A weight is e^((logit − maximum)/temperature) in f64. The filters keep a beginning of the order "falling, equal ones
/// by number": tokens of at least `min_p` times the largest weight, of them the `top_k` first, of them the fewest whose
/// weights reach `top_p` of the sum of those. Exactly `top_k` are kept, of equal logits those of lower number.
pub(crate) fn draw(
    row: &[f32],
    maximum: f32,
    sampling: &Sampling,
    uniform: f64,
    scratch: &mut Scratch,
) -> TokenId {
    let weigh = Weigh::new(maximum, sampling);
    let top_k = sampling.top_k as usize;
    if top_k > 0 && top_k < row.len() {
        draw_of_few(row, top_k, &weigh, uniform, scratch)
    } else {
        draw_of_all(row, &weigh, uniform, scratch)
    }
}

/// The settings, in the precision in which they are used.
struct Weigh {
    maximum: f64,
    temperature: f64,
    min_p: f64,
    top_p: f64,
}

impl Weigh {
    fn new(maximum: f32, sampling: &Sampling) -> Self {
        Self {
            maximum: f64::from(maximum),
            temperature: f64::from(sampling.temperature),
            min_p: f64::from(sampling.min_p),
            top_p: f64::from(sampling.top_p),
        }
    }

    /// 1 for the largest logit, 0 for one that `min_p` takes away.
    #[inline]
    fn weight(&self, logit: f32) -> f64 {
        let weight = exp((f64::from(logit) - self.maximum) / self.temperature);
        if weight < self.min_p { 0.0 } else { weight }
    }
}

fn draw_of_few(
    row: &[f32],
    top_k: usize,
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
    few.truncate(reaching(few, weigh.top_p * total, 0.0));
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

fn draw_of_all(row: &[f32], weigh: &Weigh, uniform: f64, scratch: &mut Scratch) -> TokenId {
    let Scratch { weights, sums, .. } = scratch;
    weights.clear();
    weights.extend(row.iter().map(|&logit| weigh.weight(logit)));
    if weigh.top_p < 1.0 {
        keep_nucleus(row, weights, weigh.top_p, &mut scratch.few);
    }
    sums.clear();
    sums.extend(weights.chunks(STRIDE).map(sum));
    let total: f64 = sums.iter().sum();
    let target = uniform * total;
    let block = position(sums.iter().copied(), 0.0, target);
    let before: f64 = sums[..block].iter().sum();
    let inside = &weights[block * STRIDE..];
    let inside = &inside[..inside.len().min(STRIDE)];
    let at = position(inside.iter().copied(), before, target);
    (block * STRIDE + at) as TokenId
}

/// Zeroes all weights but the fewest largest ones that reach `top_p` of their sum.
///
/// The weights are not sorted: their sums by bucket say in which bucket the boundary lies, and only that one is sorted.
fn keep_nucleus(row: &[f32], weights: &mut [f64], top_p: f64, few: &mut Vec<(TokenId, f64)>) {
    let mut masses = [0.0; BUCKETS];
    for &weight in weights.iter() {
        masses[bucket(weight)] += weight;
    }
    let target = top_p * masses.iter().sum::<f64>();
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
    few.sort_unstable_by_key(|&(token, _)| key(token, row[token as usize]));
    let kept = reaching(few, target, before);
    for &(token, _) in &few[kept..] {
        weights[token as usize] = 0.0;
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
