//! Bytes that a template may still print, into its text or into variables.
//!
//! The engine has fuel for steps, and a step that prints may double what was printed before. So every value that is printed
//! is paid for, wherever it goes. What one value is added to another by (`~` and `+`) is not printing: a template can
//! still grow a string by it, and only the checkpoint's own template could.

use std::cell::Cell;
use std::fmt;

use minijinja::{Error, ErrorKind};

thread_local! {
    /// Of the rendering that runs on this thread.
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

/// The source of the engine's error when nothing is left.
#[derive(Debug)]
pub(super) struct Spent;

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too much was printed")
    }
}

impl std::error::Error for Spent {}

/// A rendering begins.
pub(super) fn start(bytes: usize) {
    LEFT.set(bytes);
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

/// Whether so many bytes could be paid for, so that nobody makes them in vain.
pub(super) fn allows(bytes: usize) -> Result<(), Error> {
    if bytes <= LEFT.get() {
        Ok(())
    } else {
        Err(spent())
    }
}

fn spent() -> Error {
    Error::new(ErrorKind::InvalidOperation, Spent.to_string()).with_source(Spent)
}
