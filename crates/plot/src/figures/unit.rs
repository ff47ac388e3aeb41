//! How the numbers of a panel are written.

use super::scale::Scale;
use xgraft_results::human::{number, percent};

/// What a ratio is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A share, as percent.
    Percent,
    /// A plain number, or so many times something.
    Plain,
}

impl Unit {
    /// A tick of a linear axis, with the decimals that the axis needs.
    pub(crate) fn tick(self, scale: &Scale, tick: f64) -> String {
        match self {
            Self::Percent => {
                let decimals = scale.decimals(100.0);
                format!("{:.decimals$} %", 100.0 * tick)
            }
            Self::Plain => {
                let decimals = scale.decimals(1.0);
                format!("{tick:.decimals$}")
            }
        }
    }

    /// A value on its own.
    pub(crate) fn value(self, value: f64) -> String {
        match self {
            Self::Percent => percent(value),
            Self::Plain => number(value),
        }
    }
}
