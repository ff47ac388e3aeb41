//! The statistics that an evaluation of right and wrong answers needs, as pure functions of counts and scores.
//!
//! - One arm: [`Count`] with Wilson's interval, [`macro_mean`] of several tasks, [`clustered`] standard errors, the [`ratio`] of sums, [`pass_k`].
//! - Two arms over the same questions: [`Pairs`] (exact McNemar, Tango's score interval, equivalence) and the stratified
//!   paired [`bootstrap`].
//! - Two arms of which only counts are known: [`Unpaired`], and [`cmh`] over strata.
//! - Families and plans: [`holm`], [`power`].
//! - Two raters: [`Agreement`]; two measures: [`pearson`], [`spearman`].
//!
//! The key decision is that equivalence is a test of its own. A difference that is not significant is no equality, so nothing
//! here returns "equal" but [`Equivalence::holds`], which is two one-sided tests against a margin that the caller must state.
//! These tests use score statistics and not Wald's: with no discordant pair Wald's standard error is 0, and two arms
//! would be equivalent after one question.
//!
//! ```
//! use xgraft_statistics::{Count, Pairs};
//!
//! let interval = Count::new(204, 433).wilson(0.95);
//! assert!((interval.lo - 0.4245).abs() < 1e-4 && (interval.hi - 0.5182).abs() < 1e-4);
//!
//! let pairs = Pairs { both: 180, only_a: 20, only_b: 24, neither: 209 };
//! assert!(pairs.mcnemar() > 0.6); // no difference is shown,
//! assert!(!pairs.equivalence(0.03, 0.05).holds()); // and no equality within 3 points either
//! ```
//!
//! Normal, binomial and Student distributions come from `statrs`. Every function is held against `statsmodels` or SciPy
//! (`fixtures/golden/statistics.json`).
//!
//! **Invariant:** no I/O and no state; random numbers are a function of seed, replicate and draw, so results do not depend on threads.

mod agreement;
pub mod bootstrap;
mod clustered;
mod correlation;
mod count;
mod distribution;
mod equivalence;
mod holm;
mod paired;
pub mod pass_k;
pub mod power;
mod unpaired;

pub use agreement::Agreement;
pub use clustered::{clustered, ratio};
pub use correlation::{Correlation, pearson, spearman};
pub use count::{Count, Estimate, Interval, macro_mean, micro};
pub use distribution::{normal_quantile, two_sided};
pub use equivalence::Equivalence;
pub use holm::holm;
pub use paired::Pairs;
pub use unpaired::{Unpaired, cmh};
