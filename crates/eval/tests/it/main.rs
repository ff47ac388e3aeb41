//! The harness from outside.

mod rewards;
