//! The harness from outside.

mod annotate;
mod browser;
mod review;
mod rewards;
mod stats;
