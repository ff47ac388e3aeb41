//! Comparisons of small models against dense references in f64, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod controls;
mod dense;
mod made;
mod overlap;
mod planted;
mod reference;
mod refused;
