//! Extraction and verification of whole checkpoints.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod extraction;
mod methods;
mod mismatches;
mod support;
mod verification;
