//! Repeated attempts at the same questions.

use crate::{Count, Estimate};

/// The chance that at least one of `k` attempts is right, without bias from the attempts that were made.
///
/// 1 − C(n − c, k) / C(n, k). `None` when fewer than `k` attempts were made.
///
/// **Source** Chen et al., arXiv 2107.03374.
#[must_use]
pub fn any_right(attempts: Count, k: u64) -> Option<f64> {
    let wrong = attempts.n - attempts.right;
    Some(1.0 - all_of(wrong, attempts.n, k)?)
}

/// The chance that all of `k` attempts are right: C(c, k) / C(n, k). `None` when fewer than `k` attempts were made.
#[must_use]
pub fn all_right(attempts: Count, k: u64) -> Option<f64> {
    all_of(attempts.right, attempts.n, k)
}

/// The chance that `k` drawn of `n` without replacement are all among the `good`.
fn all_of(good: u64, n: u64, k: u64) -> Option<f64> {
    (k <= n).then(|| {
        (0..k)
            .map(|i| good.saturating_sub(i) as f64 / (n - i) as f64)
            .product()
    })
}

/// The mean of one number a question, with its standard error over questions. NaN errors for a single question.
///
/// # Panics
/// When there is no question.
#[must_use]
pub fn mean(values: &[f64], level: f64) -> Estimate {
    let questions: Vec<usize> = (0..values.len()).collect();
    crate::clustered(values, &questions, level)
}

/// Where the variance of an accuracy comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The standard deviation of the accuracy of a whole run that comes from repeating the same questions.
    pub between_runs: f64,
    /// The standard deviation of the chances of the questions themselves.
    pub between_questions: f64,
}

/// Splits the variance of repeated attempts into what repeating gives and what the questions give.
///
/// Within a question of c right among n, p (1 − p) is estimated without bias by c (n − c) / (n (n − 1)). `None` with fewer
/// than two questions, or fewer than two attempts at one.
#[must_use]
pub fn spread(questions: &[Count]) -> Option<Spread> {
    let q = questions.len() as f64;
    if questions.len() < 2 || questions.iter().any(|count| count.n < 2) {
        return None;
    }
    let within = |count: &Count| {
        let (c, n) = (count.right as f64, count.n as f64);
        c * (n - c) / (n * (n - 1.0))
    };
    let mean_within = questions.iter().map(within).sum::<f64>() / q;
    let mean = questions.iter().map(|count| count.share()).sum::<f64>() / q;
    let seen = questions
        .iter()
        .map(|count| (count.share() - mean).powi(2))
        .sum::<f64>()
        / (q - 1.0);
    let noise = questions
        .iter()
        .map(|count| within(count) / count.n as f64)
        .sum::<f64>()
        / q;
    Some(Spread {
        between_runs: (mean_within / q).sqrt(),
        between_questions: (seen - noise).max(0.0).sqrt(),
    })
}
