//! What was taken, and what was not.

use std::collections::BTreeMap;

use serde::Serialize;
use xgraft_dataset::Message;

use crate::Share;

/// Where a sample comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provenance {
    /// The row of the file, from 1.
    pub row: u64,
    /// The question.
    pub question: String,
    /// Its task.
    pub task: String,
    /// The arm whose attempt it is.
    pub arm: String,
    /// The model that wrote it.
    pub model: String,
    /// Which repetition.
    pub run: String,
    /// The official score.
    pub score: Option<f64>,
    /// BLAKE3 of roles and cleaned texts.
    pub blake3: String,
}

/// One sample of the set.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "schema", rename = "xgraft.calibration/1")]
pub struct Sample {
    /// The conversation, cleaned.
    pub messages: Vec<Message>,
    /// The conversation as the model sees it: by the chat template, or the texts one after the other.
    pub text: String,
    /// Tokens of `text`.
    pub tokens: usize,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tokens {
    /// Of all samples.
    pub total: usize,
    /// Of the shortest sample.
    pub shortest: usize,
    /// Of the longest sample.
    pub longest: usize,
    /// Of a sample in the mean.
    pub mean: f64,
    /// Where samples are cut.
    pub limit: usize,
    /// What remains of all samples after that.
    pub used: usize,
    /// Samples that are cut.
    pub cut: usize,
}

/// How many samples have from `from` to twice as many tokens, less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// The least number of tokens.
    pub from: usize,
    /// Samples.
    pub samples: usize,
}

/// What was taken, and what was not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name and version.
    pub schema: &'static str,
    /// Rows of the file.
    pub rows: u64,
    /// Rows by how they ended.
    pub classes: BTreeMap<&'static str, u64>,
    /// Right attempts at questions that were left for the evaluation.
    pub held_out: u64,
    /// Right attempts with something that looks like a secret, by its kind. None was taken.
    pub secrets: BTreeMap<&'static str, u64>,
    /// Right attempts whose text was there already.
    pub exact_duplicates: u64,
    /// Right attempts nearly the same as one that comes before.
    pub near_duplicates: u64,
    /// Every task's share.
    pub tasks: BTreeMap<String, Share>,
    /// Samples.
    pub samples: usize,
    /// Their tokens.
    pub tokens: Tokens,
    /// Their lengths.
    pub histogram: Vec<Histogram>,
    /// Samples that have something of the evaluation set in them, and how.
    pub contaminated: Vec<String>,
    /// Right attempts left out for what they have of the evaluation set, by its questions; only where that was asked for.
    pub leaks: BTreeMap<String, u64>,
    /// Questions of the evaluation set that calibration did not use.
    pub evaluation: Vec<String>,
}

impl Tokens {
    pub(crate) fn of(counts: &[usize], limit: usize) -> Self {
        let total: usize = counts.iter().sum();
        Self {
            total,
            shortest: counts.iter().copied().min().unwrap_or(0),
            longest: counts.iter().copied().max().unwrap_or(0),
            mean: total as f64 / counts.len().max(1) as f64,
            limit,
            used: counts.iter().map(|count| count.min(&limit)).sum(),
            cut: counts.iter().filter(|count| **count > limit).count(),
        }
    }
}

/// Samples by powers of two of their tokens, from the shortest to the longest.
pub(crate) fn histogram(counts: &[usize]) -> Vec<Histogram> {
    let mut bins: BTreeMap<usize, usize> = BTreeMap::new();
    for &count in counts {
        let from = if count == 0 { 0 } else { 1 << count.ilog2() };
        *bins.entry(from).or_default() += 1;
    }
    let bins = bins.into_iter();
    bins.map(|(from, samples)| Histogram { from, samples })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_before_and_after_the_cut() {
        let tokens = Tokens::of(&[10, 100, 1000], 100);
        assert_eq!((tokens.total, tokens.used, tokens.cut), (1110, 210, 1));
        let bins = histogram(&[0, 1, 5, 7, 8]);
        let seen: Vec<_> = bins.iter().map(|bin| (bin.from, bin.samples)).collect();
        assert_eq!(seen, [(0, 1), (1, 1), (4, 2), (8, 1)]);
    }
}
