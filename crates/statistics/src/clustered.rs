//! Standard errors of questions that hang together.

use crate::Estimate;
use std::collections::BTreeMap;

/// The mean of `scores` with the standard error that holds when questions of one cluster are not independent.
///
/// With G clusters, the sum over clusters of the squared sum of residuals, over n², times G / (G − 1); when every question
/// is its own cluster, this is the usual standard error. NaN of a single cluster.
///
/// **Source** Liang and Zeger 1986; for evaluations Miller, arXiv 2411.00640.
///
/// # Panics
/// When the two slices differ in length, or are empty.
#[must_use]
pub fn clustered<K: Ord>(scores: &[f64], clusters: &[K], level: f64) -> Estimate {
    assert_eq!(scores.len(), clusters.len(), "one cluster for each score");
    assert!(!scores.is_empty(), "at least one score");
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let mut sums: BTreeMap<&K, f64> = BTreeMap::new();
    for (score, cluster) in scores.iter().zip(clusters) {
        *sums.entry(cluster).or_default() += score - mean;
    }
    let count = sums.len() as f64;
    let squares: f64 = sums.values().map(|sum| sum * sum).sum();
    let se = (squares * count / (count - 1.0)).sqrt() / n;
    Estimate::normal(mean, se, level)
}
