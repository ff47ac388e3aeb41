//! What is done to every logit of a row: the definitions, which [`Isa`](super::isa::Isa) compiles for several instruction
//! sets. They are additions, multiplications and comparisons in a fixed order, so all give the same bits.

use super::math::exp;
use crate::engine::TokenId;

/// Weights are summed by so many, and the sums searched first.
pub(super) const STRIDE: usize = 1024;

/// Logits that are looked at together.
const LANES: usize = 32;

/// How a logit becomes a weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weigh {
    pub(super) maximum: f64,
    /// One over the temperature.
    pub(super) sharpness: f64,
    /// Weights below it count nothing.
    pub(super) min_p: f64,
}

impl Weigh {
    /// e^((logit − maximum)·sharpness): 1 for the largest logit, 0 for one that `min_p` takes away.
    #[inline(always)]
    pub(super) fn weight(&self, logit: f32) -> f64 {
        let weight = exp((f64::from(logit) - self.maximum) * self.sharpness);
        if weight < self.min_p { 0.0 } else { weight }
    }
}

/// The largest value, or nothing if one is NaN or +∞ or all are −∞.
#[inline(always)]
pub(super) fn maximum(row: &[f32]) -> Option<f32> {
    let mut largest = [f32::NEG_INFINITY; LANES];
    // Neither NaN nor +∞ is less; a word a lane, as wide as the values.
    let mut good = [1_u32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            good[lane] &= u32::from(x < f32::INFINITY);
            largest[lane] = if x > largest[lane] { x } else { largest[lane] };
        }
    }
    let all_good = rest.iter().all(|x| *x < f32::INFINITY) && !good.contains(&0);
    let lanes = largest.iter().chain(rest);
    let maximum = lanes.fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    (all_good && maximum > f32::NEG_INFINITY).then_some(maximum)
}

/// The first token that has the value.
#[inline(always)]
pub(super) fn first(row: &[f32], value: f32) -> Option<TokenId> {
    let has = |values: &[f32]| values.iter().fold(false, |any, &x| any | (x == value));
    let start = LANES * row.chunks(LANES).position(has)?;
    let at = row[start..].iter().position(|&x| x == value)?;
    Some((start + at) as TokenId)
}

/// How many values are larger.
#[inline(always)]
pub(super) fn larger(row: &[f32], value: f32) -> u32 {
    row.iter().map(|&x| u32::from(x > value)).sum()
}

/// The weights of some logits.
#[inline(always)]
pub(super) fn weights(logits: &[f32], weigh: &Weigh, weights: &mut Vec<f64>) {
    weights.clear();
    weights.extend(logits.iter().map(|&logit| weigh.weight(logit)));
}

/// The sums of the weights of every [`STRIDE`] logits.
#[inline(always)]
pub(super) fn block_sums(row: &[f32], weigh: &Weigh, sums: &mut Vec<f64>) {
    let mut block = [0.0; STRIDE];
    sums.clear();
    for logits in row.chunks(STRIDE) {
        let block = &mut block[..logits.len()];
        for (weight, &logit) in block.iter_mut().zip(logits) {
            *weight = weigh.weight(logit);
        }
        sums.push(sum(block));
    }
}

/// The tokens whose logits are at least `least`, rising.
#[inline(always)]
pub(super) fn at_least(row: &[f32], least: f32, tokens: &mut Vec<TokenId>) {
    tokens.clear();
    for (at, logits) in row.chunks(LANES).enumerate() {
        let any = logits.iter().fold(false, |any, &x| any | (x >= least));
        if any {
            let inside = (at * LANES..).zip(logits);
            let inside = inside.filter(|&(_, &x)| x >= least);
            tokens.extend(inside.map(|(token, _)| token as TokenId));
        }
    }
}

/// A sum in eight interleaved parts, which the compiler can keep in vectors.
#[inline(always)]
pub(super) fn sum(values: &[f64]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut parts = [0.0; 8];
    for chunk in chunks {
        for (part, value) in parts.iter_mut().zip(chunk) {
            *part += value;
        }
    }
    parts.iter().chain(rest).sum()
}
