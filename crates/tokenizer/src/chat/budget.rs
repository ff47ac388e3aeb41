//! Bytes that a template may still make, of its text or of values.
//!
//! The engine has fuel for steps, and one step may double what was there before. So every value that may be larger than what the
//! template says is paid for, wherever it goes. Nothing is given back: the sum bounds the memory.

use std::cell::Cell;
use std::fmt;

use minijinja::{Error, ErrorKind};

thread_local! {
    /// Of the rendering that runs on this thread.
    static LEFT: Cell<usize> = const { Cell::new(0) };
    /// What one value that is written out may have.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The source of the engine's error when nothing is left.
#[derive(Debug)]
pub(super) struct Spent;

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too much was made")
    }
}

impl std::error::Error for Spent {}

/// A rendering begins that may make `bytes`, and no more than `largest` where it writes out one value.
pub(super) fn start(bytes: usize, largest: usize) {
    LEFT.set(bytes);
    LARGEST.set(largest);
}

/// Pays for so many bytes.
pub(super) fn spend(bytes: usize) -> Result<(), Error> {
    match LEFT.get().checked_sub(bytes) {
        Some(left) => {
            LEFT.set(left);
            Ok(())
        }
        None => Err(spent()),
    }
}

/// Whether one value may have so many bytes, so that nobody writes them in vain.
pub(super) fn allows(bytes: usize) -> Result<(), Error> {
    if bytes <= LEFT.get().min(LARGEST.get()) {
        Ok(())
    } else {
        Err(spent())
    }
}

fn spent() -> Error {
    Error::new(ErrorKind::InvalidOperation, Spent.to_string()).with_source(Spent)
}
