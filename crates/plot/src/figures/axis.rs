//! An axis of either kind, with ticks that are named in the unit of its values.

use super::{
    scale::{Decades, Scale},
    unit::Unit,
};

/// Where a value stands on a panel.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Axis {
    Linear(Scale),
    Log(Decades),
}

impl Axis {
    /// A linear axis that holds the values and `include`.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>, include: &[f64]) -> Self {
        Self::Linear(Scale::around(values, include))
    }

    /// A logarithmic axis over whole decades that holds the positive values.
    pub(super) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        Self::Log(Decades::around(values))
    }

    /// 0 at the low end, 1 at the high end.
    pub(super) fn position(&self, value: f64) -> f64 {
        match self {
            Self::Linear(scale) => scale.position(value),
            Self::Log(decades) => decades.position(value),
        }
    }

    /// Where its ticks are, and how they are called.
    pub(super) fn ticks(&self, unit: Unit) -> Vec<(f64, String)> {
        match (self, unit) {
            (Self::Linear(scale), _) => scale
                .ticks
                .iter()
                .map(|tick| (*tick, unit.tick(scale, *tick)))
                .collect(),
            (Self::Log(decades), Unit::Plain) => decades.ticks().collect(),
            (Self::Log(decades), Unit::Percent) => decades
                .ticks()
                .map(|(tick, _)| {
                    let decimals = (-2.0 - tick.log10().round()).max(0.0) as usize;
                    (tick, format!("{:.decimals$} %", 100.0 * tick))
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_carry_the_unit_on_both_kinds_of_axis() {
        let names = |axis: Axis, unit| -> Vec<String> {
            let ticks = axis.ticks(unit);
            ticks.into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(
            names(Axis::linear([0.2], &[0.0]), Unit::Percent),
            ["0 %", "10 %", "20 %"]
        );
        assert_eq!(
            names(Axis::log([0.02, 0.5]), Unit::Percent),
            ["1 %", "10 %", "100 %"]
        );
        assert_eq!(
            names(Axis::log([0.02, 0.5]), Unit::Plain),
            ["0.01", "0.1", "1"]
        );
    }
}
