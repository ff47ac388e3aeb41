//! Telling the caller how far the work is, and being told to stop.

use std::ops::ControlFlow;

use crate::{Error, Result};

/// How far a factorization is. Reported before each product with the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Products with the matrix that are done.
    pub products: usize,
    /// Products that the first check of convergence will have taken; more may follow.
    pub expected: usize,
    /// Columns of the basis.
    pub basis: usize,
}

/// Calls the callback.
pub(crate) struct Monitor<'a> {
    callback: &'a dyn Fn(Progress) -> ControlFlow<()>,
    state: Progress,
}

impl<'a> Monitor<'a> {
    pub(crate) fn new(callback: &'a dyn Fn(Progress) -> ControlFlow<()>, expected: usize) -> Self {
        Self {
            callback,
            state: Progress {
                products: 0,
                expected,
                basis: 0,
            },
        }
    }

    /// Announces a product, with the basis as wide as it is.
    pub(crate) fn product(&mut self, basis: usize) -> Result<()> {
        self.state.basis = basis;
        let flow = (self.callback)(self.state);
        self.state.products += 1;
        match flow {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }

    /// Products announced so far.
    pub(crate) fn products(&self) -> usize {
        self.state.products
    }
}
