//! Panels in rows and columns, each with curves over a logarithmic axis.

use super::{
    axis::Axis,
    canvas::{Canvas, Lettering, Point, draw},
    palette::{GRID, MUTED, TEXT},
    stroke::Stroke,
    unit::Unit,
};
use crate::Result;

/// The whole figure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curves {
    /// Left to right, then top to bottom.
    pub(crate) panels: Vec<CurvesPanel>,
    /// How many panels stand side by side.
    pub(crate) columns: usize,
    /// Names of the series, with how each is drawn.
    pub(crate) series: Vec<(String, Stroke)>,
    /// What the thin grey lines behind the series are.
    pub(crate) behind: Option<String>,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub(crate) struct CurvesPanel {
    pub(crate) title: String,
    /// What the vertical axis says.
    pub(crate) note: String,
    /// How the values on the vertical axis are written.
    pub(crate) unit: Unit,
    /// What the horizontal axis says, with its unit.
    pub(crate) below: String,
    /// Where the horizontal axis has its ticks, and their names.
    pub(crate) ticks: Vec<(f64, String)>,
    /// Named places on the horizontal axis: an upright line each, its name above the plot.
    pub(crate) places: Vec<(f64, String)>,
    /// Whether the vertical axis is logarithmic.
    pub(crate) log: bool,
    /// Values that a linear vertical axis must hold.
    pub(crate) include: Vec<f64>,
    pub(crate) curves: Vec<Curve>,
}

/// One curve.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// Which series it belongs to; none for the thin lines behind.
    pub(crate) series: Option<usize>,
    /// Points from left to right; the first number is positive.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 960.0;
const PLOT: f64 = 172.0;
const SMALL_PLOT: f64 = 130.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 18.0;
const HEAD: f64 = 58.0;
/// A line of names of places.
const PLACES: f64 = 16.0;
const BOTTOM: f64 = 54.0;
const LEGEND: f64 = 24.0;
const SIZE: f64 = 12.0;
/// Width of a letter.
const LETTER: f64 = 7.0;

impl Curves {
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let columns = self.columns.max(1);
        let width = WIDTH / columns as f64;
        let plot = if columns > 2 { SMALL_PLOT } else { PLOT };
        let head = HEAD + PLACES * self.place_lines(width) as f64;
        let height = head + plot + BOTTOM;
        let rows = self.panels.len().div_ceil(columns) as f64;
        draw(name, (WIDTH, height * rows + LEGEND), |canvas| {
            for (at, panel) in self.panels.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let (left, top) = (width * column as f64, height * row as f64);
                let x = (left + LEFT, left + width - RIGHT);
                let y = (top + head, top + head + plot);
                Frame::new(panel, x, y).paint(canvas, top, &self.series);
            }
            self.legend(canvas, height * rows + LEGEND / 2.0);
        })
    }

    /// Lines that the fullest panel needs for the names of its places.
    fn place_lines(&self, width: f64) -> usize {
        let lines = self.panels.iter().map(|panel| {
            let frame = Frame::new(panel, (LEFT, width - RIGHT), (0.0, 1.0));
            let lines = frame.placed().into_iter().map(|(_, line, _)| line + 1);
            lines.max().unwrap_or(0)
        });
        lines.max().unwrap_or(0)
    }

    fn legend(&self, canvas: &mut Canvas<'_>, y: f64) {
        let mut x = LEFT;
        let mut name = |canvas: &mut Canvas<'_>, text: &str| {
            let at = x;
            canvas.text(text, (at + 24.0, y), Lettering::new(SIZE, TEXT));
            x += 44.0 + LETTER * text.chars().count() as f64;
            at
        };
        for (text, stroke) in &self.series {
            let x = name(canvas, text);
            stroke.line(canvas, &[(x, y), (x + 18.0, y)]);
            stroke.marks(canvas, &[(x + 9.0, y)]);
        }
        if let Some(text) = &self.behind {
            let x = name(canvas, text);
            canvas.line((x, y), (x + 18.0, y), MUTED.into(), THIN);
        }
    }
}

/// Width of the lines behind the series.
const THIN: f64 = 0.7;
/// Up to this many of them are told apart.
const FEW: usize = 8;

/// A panel with its place on the sheet.
struct Frame<'a> {
    panel: &'a CurvesPanel,
    /// Left and right end.
    x: (f64, f64),
    /// Top and bottom.
    y: (f64, f64),
    axis: Axis,
    /// Lowest and highest value of the horizontal axis.
    ends: (f64, f64),
}

impl<'a> Frame<'a> {
    fn new(panel: &'a CurvesPanel, x: (f64, f64), y: (f64, f64)) -> Self {
        let points = || panel.curves.iter().flat_map(|curve| &curve.points);
        let values = points().map(|(_, y)| *y);
        let axis = if panel.log {
            Axis::log(values)
        } else {
            Axis::linear(values, &panel.include)
        };
        let named = panel.ticks.iter().chain(&panel.places).map(|(x, _)| *x);
        let all = points().map(|(x, _)| *x).chain(named);
        let ends = all.fold((f64::INFINITY, 0.0_f64), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        Self {
            panel,
            x,
            y,
            axis,
            ends,
        }
    }

    fn across(&self, value: f64) -> f64 {
        let span = (self.ends.1 / self.ends.0).ln().max(f64::MIN_POSITIVE);
        let (left, right) = (self.x.0 + 8.0, self.x.1 - 8.0);
        left + (right - left) * (value / self.ends.0).ln() / span
    }

    fn down(&self, value: f64) -> f64 {
        self.y.0 + (self.y.1 - self.y.0) * (1.0 - self.axis.position(value))
    }

    /// The names of places, each with its position and the line above the plot where it touches no other.
    fn placed(&self) -> Vec<(f64, usize, &str)> {
        let mut ends: Vec<f64> = Vec::new();
        let mut placed = Vec::new();
        for (value, name) in &self.panel.places {
            let half = 0.5 * LETTER * name.chars().count() as f64;
            let x = self.across(*value).min(self.x.1 + RIGHT - half);
            let free = ends.iter().position(|end| *end < x - half);
            let line = free.unwrap_or_else(|| {
                ends.push(0.0);
                ends.len() - 1
            });
            ends[line] = x + half + LETTER;
            placed.push((x, line, name.as_str()));
        }
        placed
    }

    /// `head` is where the sheet of the panel begins.
    fn paint(&self, canvas: &mut Canvas<'_>, head: f64, series: &[(String, Stroke)]) {
        let (left, muted) = (self.x.0, Lettering::new(SIZE, MUTED));
        let title = Lettering::new(14.0, TEXT).bold();
        canvas.text(&self.panel.title, (left, head + 16.0), title);
        canvas.text(&self.panel.note, (left, head + 36.0), muted);
        self.grid(canvas);
        let (known, behind): (Vec<&Curve>, Vec<&Curve>) =
            self.panel.curves.iter().partition(|c| c.series.is_some());
        self.behind(canvas, &behind);
        // Broad ones below, so that curves that lie on each other are all seen.
        let mut strokes: Vec<(&Curve, Stroke)> = known
            .into_iter()
            .filter_map(|curve| Some((curve, series.get(curve.series?)?.1)))
            .collect();
        strokes.sort_by(|a, b| b.1.breadth().total_cmp(&a.1.breadth()));
        for (curve, stroke) in strokes {
            let path = self.path(curve);
            stroke.line(canvas, &path);
            stroke.marks(canvas, &path);
        }
    }

    fn grid(&self, canvas: &mut Canvas<'_>) {
        let ((left, right), (top, floor)) = (self.x, self.y);
        let muted = Lettering::new(SIZE, MUTED);
        for (tick, text) in self.axis.ticks(self.panel.unit) {
            let y = self.down(tick);
            canvas.line((left, y), (right, y), GRID.into(), 1.0);
            canvas.text(&text, (left - 8.0, y), muted.right());
        }
        for (value, _) in &self.panel.places {
            let x = self.across(*value);
            canvas.line((x, top - 4.0), (x, floor), GRID.into(), 1.0);
        }
        for (x, line, name) in self.placed() {
            let y = top - 12.0 - PLACES * line as f64;
            canvas.text(name, (x, y), muted.centred());
        }
        for (value, name) in &self.panel.ticks {
            let x = self.across(*value);
            canvas.line((x, floor), (x, floor + 4.0), MUTED.into(), 1.0);
            canvas.text(name, (x, floor + 15.0), muted.centred());
        }
        let middle = (0.5 * (left + right), floor + 35.0);
        canvas.text(&self.panel.below, middle, muted.centred());
    }

    fn path(&self, curve: &Curve) -> Vec<Point> {
        let points = curve.points.iter();
        points
            .map(|(x, y)| (self.across(*x), self.down(*y)))
            .collect()
    }

    /// Many of them are a band, and the series must be seen on it.
    fn behind(&self, canvas: &mut Canvas<'_>, curves: &[&Curve]) {
        let ink = if curves.len() > FEW { GRID } else { MUTED };
        for curve in curves {
            let path = self.path(curve);
            if path.len() > 1 {
                canvas.path(&path, ink.into(), THIN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(places: &[(f64, &str)], panels: usize, log: bool) -> Curves {
        let panel = CurvesPanel {
            title: "T".to_owned(),
            note: "n".to_owned(),
            unit: Unit::Percent,
            below: "rank, logarithmic".to_owned(),
            ticks: vec![(1.0, "one".to_owned()), (10.0, "ten".to_owned())],
            places: places
                .iter()
                .map(|(x, name)| (*x, (*name).to_owned()))
                .collect(),
            log,
            include: vec![0.0],
            curves: vec![
                Curve {
                    series: Some(0),
                    points: vec![(1.0, 0.2), (10.0, 0.4)],
                },
                Curve {
                    series: None,
                    points: vec![(1.0, 0.1), (10.0, 0.3)],
                },
            ],
        };
        Curves {
            panels: vec![panel; panels],
            columns: 4,
            series: vec![("mean".to_owned(), Stroke::of_place(0))],
            behind: Some("one layer".to_owned()),
        }
    }

    #[test]
    fn every_point_of_a_series_is_a_mark_and_ticks_have_their_unit() {
        let svg = figure(&[], 5, false).render("x").expect("draws");
        assert_eq!(svg.matches("<circle").count(), 5 * 2 + 1);
        assert!(svg.contains("\n40 %\n"));
        assert!(svg.contains("one layer"));
    }

    #[test]
    fn names_that_would_touch_stand_on_lines_of_their_own() {
        let near = figure(&[(5.0, "int2"), (5.2, "int2-g256")], 1, false);
        assert_eq!(near.place_lines(240.0), 2);
        let far = figure(&[(1.0, "int8"), (10.0, "int2")], 1, false);
        assert_eq!(far.place_lines(240.0), 1);
        assert_eq!(figure(&[], 1, false).place_lines(240.0), 0);
    }

    #[test]
    fn logarithmic_values_and_no_panels_draw() {
        assert!(figure(&[], 1, true).render("x").is_ok());
        assert!(figure(&[], 0, false).render("x").is_ok());
    }
}
