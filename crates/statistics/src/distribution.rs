//! The distributions that the tests need.

use statrs::distribution::{Binomial, ContinuousCDF, Discrete, DiscreteCDF, Normal, StudentsT};

/// The quantile of the standard normal distribution.
///
/// # Panics
/// When `p` is not inside (0, 1).
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0, "a probability inside (0, 1)");
    Normal::standard().inverse_cdf(p)
}

/// The probability that a standard normal number is at least as far from 0 as `z`.
#[must_use]
pub fn two_sided(z: f64) -> f64 {
    (2.0 * above(z.abs())).min(1.0)
}

/// The probability that a standard normal number is above `z`.
pub(crate) fn above(z: f64) -> f64 {
    Normal::standard().sf(z)
}

/// The quantile that leaves half of 1 − `level` on each side.
pub(crate) fn critical(level: f64) -> f64 {
    normal_quantile(0.5 + level / 2.0)
}

/// The probabilities that of `n` fair coins at most, and exactly, `k` show heads.
pub(crate) fn fair_coins(k: u64, n: u64) -> (f64, f64) {
    match Binomial::new(0.5, n) {
        Ok(coins) => (coins.cdf(k), coins.pmf(k)),
        Err(_) => (1.0, 1.0),
    }
}

/// The two-sided probability of Student's t with `freedom` degrees.
pub(crate) fn student_two_sided(t: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |d| (2.0 * d.sf(t.abs())).min(1.0))
}

/// Where the decreasing function `f` crosses 0 inside [`lo`, `hi`], by bisection; an end where it does not.
pub(crate) fn crossing(mut lo: f64, mut hi: f64, f: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..200 {
        let middle = f64::midpoint(lo, hi);
        if f(middle) > 0.0 {
            lo = middle;
        } else {
            hi = middle;
        }
    }
    f64::midpoint(lo, hi)
}
