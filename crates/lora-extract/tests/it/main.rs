//! Extraction and verification of whole checkpoints.

mod extraction;
mod mismatches;
mod support;
mod verification;
