//! The crate from outside: hostile files, round trips through other writers, interrupted work.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

mod adapter;
mod entry;
mod fixtures;
mod fp8;
mod header;
mod index;
mod inventory;
mod load;
mod mutation;
mod nf4;
mod output;
mod side_files;
mod strips;
mod support;
mod writer;
