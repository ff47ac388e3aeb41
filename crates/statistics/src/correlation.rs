//! Two measures of the same things.

use crate::{
    Interval,
    distribution::{critical, student_two_sided},
};

/// A correlation with its interval and the p of none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correlation {
    /// From −1 to 1.
    pub value: f64,
    /// Fisher's interval, normal in atanh.
    pub interval: Interval,
    /// The two-sided p of no correlation, by Student's t.
    pub p: f64,
}

/// Pearson's correlation. `None` with fewer than four pairs, or where one side does not vary.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn pearson(x: &[f64], y: &[f64], level: f64) -> Option<Correlation> {
    assert_eq!(x.len(), y.len(), "pairs");
    let n = x.len() as f64;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let product = |a: &[f64], mean_a: f64, b: &[f64], mean_b: f64| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| (a - mean_a) * (b - mean_b)).sum()
    };
    let spread = product(x, mean_x, x, mean_x) * product(y, mean_y, y, mean_y);
    if x.len() < 4 || spread <= 0.0 {
        return None;
    }
    let r = (product(x, mean_x, y, mean_y) / spread.sqrt()).clamp(-1.0, 1.0);
    let half = critical(level) / (n - 3.0).sqrt();
    let t = r * ((n - 2.0) / (1.0 - r * r)).sqrt();
    Some(Correlation {
        value: r,
        interval: Interval {
            lo: (r.atanh() - half).tanh(),
            hi: (r.atanh() + half).tanh(),
        },
        p: if r.abs() < 1.0 {
            student_two_sided(t, n - 2.0)
        } else {
            0.0
        },
    })
}

/// Spearman's correlation: Pearson's of the ranks, of which equal values share the mean.
///
/// # Panics
/// When the slices differ in length.
#[must_use]
pub fn spearman(x: &[f64], y: &[f64], level: f64) -> Option<Correlation> {
    pearson(&ranks(x), &ranks(y), level)
}

fn ranks(values: &[f64]) -> Vec<f64> {
    // −0 becomes 0, so that the two are equal.
    let values: Vec<f64> = values.iter().map(|value| value + 0.0).collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut at = 0;
    for equal in order.chunk_by(|&i, &j| values[i].total_cmp(&values[j]).is_eq()) {
        let rank = at as f64 + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|&index| ranks[index] = rank);
        at += equal.len();
    }
    ranks
}
