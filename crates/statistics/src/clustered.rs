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
    Estimate::normal(mean, standard_error(&sums, n), level)
}

/// The mean of many scores of which only the sums over parts are known: `(cluster, sum, size)` of each part, over the sum of the sizes,
/// with the standard error of [`clustered`]. NaN of a single cluster.
///
/// **Source** the linearised ratio estimator, Cochran 1977, section 6.3, between clusters.
///
/// # Panics
/// When the sizes do not sum to more than 0.
#[must_use]
pub fn ratio<K: Ord>(parts: impl IntoIterator<Item = (K, f64, f64)>, level: f64) -> Estimate {
    let mut of: BTreeMap<K, (f64, f64)> = BTreeMap::new();
    for (cluster, sum, size) in parts {
        let known = of.entry(cluster).or_default();
        *known = (known.0 + sum, known.1 + size);
    }
    let sum: f64 = of.values().map(|(sum, _)| sum).sum();
    let size: f64 = of.values().map(|(_, size)| size).sum();
    assert!(size > 0.0, "at least one score");
    let mean = sum / size;
    let residuals = of
        .into_iter()
        .map(|(k, (sum, size))| (k, sum - mean * size));
    let residuals: BTreeMap<K, f64> = residuals.collect();
    Estimate::normal(mean, standard_error(&residuals, size), level)
}

/// Of the mean of `n` scores, by the sums of residuals of their clusters.
fn standard_error<K>(sums: &BTreeMap<K, f64>, n: f64) -> f64 {
    let count = sums.len() as f64;
    let squares: f64 = sums.values().map(|sum| sum * sum).sum();
    (squares * count / (count - 1.0)).sqrt() / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_parts_give_the_mean_and_error_of_their_scores() {
        let scores = [0.1, 0.4, 0.35, 0.9, 0.2, 0.6];
        let clusters = ["a", "a", "b", "c", "c", "c"];
        let parts = [
            ("a", 0.5, 2.0),
            ("b", 0.35, 1.0),
            ("c", 1.1, 2.0),
            ("c", 0.6, 1.0),
        ];
        let (whole, of_parts) = (clustered(&scores, &clusters, 0.95), ratio(parts, 0.95));
        assert!((whole.value - of_parts.value).abs() < 1e-12);
        assert!(
            (whole.se - of_parts.se).abs() < 1e-12,
            "{whole:?} {of_parts:?}"
        );
        assert!(ratio([("a", 1.0, 3.0)], 0.95).se.is_nan());
    }
}
