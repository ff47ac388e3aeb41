//! Values beside the levels that chance gives: a dot for the value, an upright stroke for its chance level, and the way between them.
//!
//! On a logarithmic axis a bar would start nowhere, and on a linear one a cosine of 0.001 beside one of 1 cannot be seen. The way from
//! the chance level to the value is what the figure is about, so that is drawn.

use super::{
    axis::Axis,
    canvas::{Canvas, Lettering, Point, draw},
    palette::{GRID, MUTED, TEXT, of_series},
    unit::Unit,
};
use crate::Result;
use xgraft_results::human::number;

/// The whole figure.
#[derive(Clone, Debug)]
pub(crate) struct Levels {
    /// Names of the rows, top to bottom.
    pub(crate) rows: Vec<String>,
    /// Names of the series, each with an ink of its own.
    pub(crate) series: Vec<String>,
    /// The panels, left to right.
    pub(crate) panels: Vec<LevelsPanel>,
}

/// One quantity for every row.
#[derive(Clone, Debug)]
pub(crate) struct LevelsPanel {
    /// The quantity.
    pub(crate) title: String,
    /// What it means, in one line.
    pub(crate) note: String,
    /// How its numbers are written.
    pub(crate) unit: Unit,
    /// Whether the axis is logarithmic; a linear one starts at 0.
    pub(crate) log: bool,
    /// As many as the figure has rows; in each the levels, top to bottom.
    pub(crate) levels: Vec<Vec<Level>>,
}

/// A value and what chance gives for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Level {
    /// Which series it belongs to.
    pub(crate) series: usize,
    pub(crate) value: f64,
    pub(crate) chance: f64,
}

const WIDTH: f64 = 960.0;
const HEAD: f64 = 96.0;
const FOOT: f64 = 34.0;
/// From level to level of a row.
const LINE: f64 = 17.0;
/// Between rows.
const SPACE: f64 = 12.0;
/// Room of a panel for its values.
const VALUES: f64 = 150.0;
const GAP: f64 = 26.0;
/// Width of a letter of the row names.
const LETTER: f64 = 7.7;

impl Levels {
    /// Draws it.
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let height = self.row_top(self.rows.len()) + FOOT;
        draw(name, (WIDTH, height), |canvas| {
            self.legend(canvas);
            for (row, name) in self.rows.iter().enumerate() {
                let middle = 0.5 * (self.row_top(row) + self.row_top(row + 1) - SPACE);
                let label = Lettering::new(13.0, TEXT).bold().right();
                canvas.text(name, (self.names() - 14.0, middle), label);
            }
            for (index, panel) in self.panels.iter().enumerate() {
                self.panel(canvas, panel, self.left_of(index));
            }
        })
    }

    /// Room for the names of the rows.
    fn names(&self) -> f64 {
        let longest = self.rows.iter().map(|name| name.chars().count()).max();
        (34.0 + LETTER * longest.unwrap_or(0) as f64).max(86.0)
    }

    /// Levels of a row: as many as the fullest panel has.
    fn lines(&self, row: usize) -> usize {
        let counts = self.panels.iter().map(|panel| panel.levels[row].len());
        counts.max().unwrap_or(0).max(1)
    }

    fn row_top(&self, row: usize) -> f64 {
        (0..row).fold(HEAD, |y, row| y + LINE * self.lines(row) as f64 + SPACE)
    }

    fn pitch(&self) -> f64 {
        (WIDTH - self.names()) / self.panels.len().max(1) as f64
    }

    fn left_of(&self, panel: usize) -> f64 {
        self.names() + self.pitch() * panel as f64
    }

    fn plot_width(&self) -> f64 {
        self.pitch() - VALUES - GAP
    }

    fn legend(&self, canvas: &mut Canvas<'_>) {
        let mut x = self.names();
        let mut name = |canvas: &mut Canvas<'_>, text: &str| {
            canvas.text(text, (x + 14.0, 20.0), Lettering::new(13.0, TEXT));
            let at = x;
            x += 14.0 + LETTER * text.chars().count() as f64 + 30.0;
            at
        };
        for (index, series) in self.series.iter().enumerate() {
            let at = name(canvas, series);
            canvas.mark(index, (at + 4.0, 20.0), 4.2, of_series(index).into());
        }
        let at = name(canvas, "chance level");
        canvas.line((at + 4.0, 13.0), (at + 4.0, 27.0), TEXT.into(), 2.0);
    }

    fn panel(&self, canvas: &mut Canvas<'_>, panel: &LevelsPanel, left: f64) {
        let right = left + self.plot_width();
        canvas.text(
            &panel.title,
            (left, HEAD - 48.0),
            Lettering::new(15.0, TEXT).bold(),
        );
        canvas.text(
            &panel.note,
            (left, HEAD - 29.0),
            Lettering::new(12.0, MUTED),
        );
        let axis = panel.axis();
        let bottom = self.row_top(self.rows.len()) - SPACE + 4.0;
        let x = |value: f64| left + self.plot_width() * axis.position(value);
        for (tick, text) in axis.ticks(panel.unit) {
            canvas.line((x(tick), HEAD - 8.0), (x(tick), bottom), GRID.into(), 1.0);
            let label = Lettering::new(11.0, MUTED).centred();
            canvas.text(&text, (x(tick), bottom + 12.0), label);
        }
        let heads = Lettering::new(11.0, MUTED).right();
        canvas.text("mean", (right + 78.0, HEAD - 12.0), heads);
        canvas.text("× chance", (right + VALUES - 4.0, HEAD - 12.0), heads);
        for (row, levels) in panel.levels.iter().enumerate() {
            for (line, level) in levels.iter().enumerate() {
                let y = self.row_top(row) + LINE * (line as f64 + 0.5);
                let (value, chance): (Point, Point) = ((x(level.value), y), (x(level.chance), y));
                let color = of_series(level.series);
                canvas.line(chance, value, color.into(), 2.4);
                let (up, down) = ((chance.0, y - 7.0), (chance.0, y + 7.0));
                canvas.line(up, down, TEXT.into(), 2.0);
                canvas.mark(level.series, value, 4.2, color.into());
                let label = Lettering::new(12.0, color).bold().right();
                canvas.text(&panel.unit.value(level.value), (right + 78.0, y), label);
                let times = number(level.value / level.chance);
                let label = Lettering::new(12.0, MUTED).right();
                canvas.text(&times, (right + VALUES - 4.0, y), label);
            }
        }
    }
}

impl LevelsPanel {
    fn axis(&self) -> Axis {
        let levels = self.levels.iter().flatten();
        let values = levels.flat_map(|level| [level.value, level.chance]);
        if self.log {
            Axis::log(values)
        } else {
            Axis::linear(values, &[0.0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64], log: bool) -> String {
        let level = |value: &f64| Level {
            series: 0,
            value: *value,
            chance: 0.01,
        };
        let levels = Levels {
            rows: values.iter().map(|value| format!("row {value}")).collect(),
            series: vec!["one".to_owned()],
            panels: vec![LevelsPanel {
                title: "T".to_owned(),
                note: "n".to_owned(),
                unit: Unit::Plain,
                log,
                levels: values.iter().map(|value| vec![level(value)]).collect(),
            }],
        };
        levels.render("x").expect("draws")
    }

    #[test]
    fn every_value_is_a_dot_with_its_number_and_its_ratio_to_chance() {
        for log in [false, true] {
            let svg = figure(&[0.0123, 0.4], log);
            assert_eq!(
                svg.matches("<circle").count(),
                2 + 1,
                "two values and the legend"
            );
            for text in ["\n0.0123\n", "\n1.23\n", "\n0.400\n", "\n40\n"] {
                assert!(svg.contains(text), "{text:?}");
            }
        }
    }

    #[test]
    fn zero_and_nothing_still_draw() {
        assert!(figure(&[0.0], true).contains("<circle"));
        assert!(figure(&[], false).starts_with("<svg"));
    }
}
