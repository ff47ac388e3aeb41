//! Shares, or positive numbers over decades, with their intervals: a dot for the value, a line for what it may be, and the number beside it.
//!
//! A bar from zero would hide what matters, the interval, and says no more than a dot does.

use super::{
    axis::Axis,
    canvas::{Canvas, Lettering, draw},
    palette::{GRID, MUTED, TEXT, of_series},
    unit::Unit,
};
use crate::Result;

/// The whole figure.
#[derive(Clone, Debug)]
pub(crate) struct Intervals {
    /// Names of the rows, top to bottom, each with the index of its ink.
    pub(crate) rows: Vec<(String, usize)>,
    /// The panels, left to right.
    pub(crate) panels: Vec<IntervalsPanel>,
}

/// One quantity for every row.
#[derive(Clone, Debug)]
pub(crate) struct IntervalsPanel {
    pub(crate) title: String,
    /// What it means, in one line.
    pub(crate) note: String,
    /// Shares lie on a linear axis from 0, plain numbers on a logarithmic one.
    pub(crate) unit: Unit,
    /// As many as the figure has rows.
    pub(crate) values: Vec<Option<Interval>>,
    /// The row that the others are read against: a line goes down from its dot.
    pub(crate) reference: Option<usize>,
}

/// A number and what it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) value: f64,
    pub(crate) lo: f64,
    pub(crate) hi: f64,
}

const WIDTH: f64 = 960.0;
const HEAD: f64 = 66.0;
const FOOT: f64 = 34.0;
const LINE: f64 = 22.0;
/// Room of a panel for its numbers.
const VALUES: f64 = 74.0;
const GAP: f64 = 22.0;
/// Width of a letter of the row names.
const LETTER: f64 = 7.7;

impl Intervals {
    /// Draws it.
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let bottom = HEAD + LINE * self.rows.len() as f64;
        draw(name, (WIDTH, bottom + FOOT), |canvas| {
            for (at, (name, _)) in self.rows.iter().enumerate() {
                let label = Lettering::new(13.0, TEXT).right();
                canvas.text(name, (self.names() - 14.0, middle(at)), label);
            }
            let pitch = (WIDTH - self.names()) / self.panels.len().max(1) as f64;
            for (at, panel) in self.panels.iter().enumerate() {
                let left = self.names() + pitch * at as f64;
                self.panel(canvas, panel, (left, left + pitch - VALUES - GAP), bottom);
            }
        })
    }

    fn names(&self) -> f64 {
        let longest = self.rows.iter().map(|(name, _)| name.chars().count()).max();
        (30.0 + LETTER * longest.unwrap_or(0) as f64).max(86.0)
    }

    fn panel(
        &self,
        canvas: &mut Canvas<'_>,
        panel: &IntervalsPanel,
        (left, right): (f64, f64),
        bottom: f64,
    ) {
        canvas.text(
            &panel.title,
            (left, 18.0),
            Lettering::new(15.0, TEXT).bold(),
        );
        canvas.text(&panel.note, (left, 38.0), Lettering::new(12.0, MUTED));
        let ends = panel
            .values
            .iter()
            .flatten()
            .flat_map(|i| [i.lo, i.value, i.hi]);
        let axis = match panel.unit {
            Unit::Percent => Axis::linear(ends, &[0.0]),
            Unit::Plain => Axis::log(ends),
        };
        // An interval may reach to 0, where a logarithmic axis never does.
        let x = |value: f64| left + (right - left) * axis.position(value).max(0.0);
        for (tick, text) in axis.ticks(panel.unit) {
            canvas.line((x(tick), HEAD - 8.0), (x(tick), bottom), GRID.into(), 1.0);
            let label = Lettering::new(11.0, MUTED).centred();
            canvas.text(&text, (x(tick), bottom + 14.0), label);
        }
        let reference = panel.reference.and_then(|at| panel.values[at]);
        if let Some(at) = reference {
            let (from, to) = ((x(at.value), HEAD - 8.0), (x(at.value), bottom));
            canvas.line(from, to, MUTED.into(), 1.2);
        }
        for (row, interval) in panel.values.iter().enumerate() {
            let (Some(interval), y) = (interval, middle(row)) else {
                continue;
            };
            let series = self.rows[row].1;
            let ink = of_series(series);
            canvas.line((x(interval.lo), y), (x(interval.hi), y), ink.into(), 2.4);
            canvas.mark(series, (x(interval.value), y), 4.4, ink.into());
            let label = Lettering::new(12.0, TEXT).bold().right();
            let number = match panel.unit {
                Unit::Percent => format!("{:.1} %", 100.0 * interval.value),
                Unit::Plain => panel.unit.value(interval.value),
            };
            canvas.text(&number, (right + VALUES - 6.0, y), label);
        }
    }
}

fn middle(row: usize) -> f64 {
    HEAD + LINE * (row as f64 + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_a_dot_a_line_and_a_number_and_what_is_missing_is_left_out() {
        let interval = |value: f64| Interval {
            value,
            lo: value - 0.05,
            hi: value + 0.05,
        };
        let figure = Intervals {
            rows: vec![
                ("base".to_owned(), 0),
                ("tuned".to_owned(), 0),
                ("c".to_owned(), 0),
            ],
            panels: vec![IntervalsPanel {
                title: "Accuracy".to_owned(),
                note: "of all questions".to_owned(),
                unit: Unit::Percent,
                values: vec![Some(interval(0.238)), Some(interval(0.598)), None],
                reference: Some(1),
            }],
        };
        let svg = figure.render("x").expect("draws");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(
            svg.contains("\n23.8 %\n") && svg.contains("\n59.8 %\n"),
            "{svg}"
        );
    }

    #[test]
    fn plain_numbers_lie_on_decades_and_an_interval_that_holds_zero_ends_at_the_axis() {
        let value = |value: f64, lo: f64| Interval {
            value,
            lo,
            hi: 2.0 * value,
        };
        let figure = Intervals {
            rows: vec![("a".to_owned(), 0), ("b".to_owned(), 1)],
            panels: vec![IntervalsPanel {
                title: "KL".to_owned(),
                note: String::new(),
                unit: Unit::Plain,
                values: vec![Some(value(0.002, -0.001)), Some(value(0.3, 0.2))],
                reference: None,
            }],
        };
        let svg = figure.render("x").expect("draws");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for text in ["0.001", "0.01", "0.1", "1", "0.00200", "0.300"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}: {svg}");
        }
    }
}
