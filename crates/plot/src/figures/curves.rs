//! Panels side by side, each with curves over a logarithmic axis.

use super::canvas::{Canvas, Lettering, Point, draw};
use super::palette::{GRID, MUTED, TEXT, of_series};
use super::scale::Scale;
use crate::Result;
use std::cmp::Reverse;

/// Panels side by side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curves {
    pub(crate) panels: Vec<Panel>,
    /// Names of the series, in the order of their inks.
    pub(crate) series: Vec<String>,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// What the vertical axis says, with its unit.
    pub(crate) note: String,
    /// What the horizontal axis says, with its unit.
    pub(crate) below: String,
    /// Where the horizontal axis has its ticks, and their names.
    pub(crate) ticks: Vec<(f64, String)>,
    /// Values that the vertical axis must hold.
    pub(crate) include: Vec<f64>,
    pub(crate) curves: Vec<Curve>,
}

/// One curve.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// Which series it belongs to.
    pub(crate) series: usize,
    /// Points from left to right; the first number is positive.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 50.0;
const LEGEND: f64 = 24.0;
const SIZE: f64 = 12.0;

impl Curves {
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let size = (WIDTH * self.panels.len() as f64, HEIGHT + LEGEND);
        draw(name, size, |canvas| {
            for (i, panel) in self.panels.iter().enumerate() {
                panel.paint(canvas, WIDTH * i as f64);
            }
            let mut x = LEFT;
            for (i, name) in self.series.iter().enumerate() {
                let y = HEIGHT + LEGEND / 2.0;
                let ink = of_series(i);
                canvas.line((x, y), (x + 18.0, y), ink.into(), 2.0);
                canvas.dot((x + 9.0, y), 3.5, ink.into());
                canvas.text(name, (x + 24.0, y), Lettering::new(SIZE, TEXT));
                x += 40.0 + 7.0 * name.chars().count() as f64;
            }
        })
    }
}

impl Panel {
    fn paint(&self, canvas: &mut Canvas<'_>, left: f64) {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let scale = Scale::around(points().map(|(_, y)| *y), &self.include);
        let places = points()
            .map(|(x, _)| *x)
            .chain(self.ticks.iter().map(|(x, _)| *x));
        let (low, high) = places.fold((f64::INFINITY, 0.0_f64), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        let room = WIDTH - LEFT - RIGHT - 16.0;
        let span = (high / low).ln().max(f64::MIN_POSITIVE);
        let across = |x: f64| left + LEFT + 8.0 + room * (x / low).ln() / span;
        let down = |y: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - scale.position(y));
        canvas.text(
            &self.title,
            (left + LEFT, 16.0),
            Lettering::new(14.0, TEXT).bold(),
        );
        canvas.text(&self.note, (left + LEFT, 36.0), Lettering::new(SIZE, MUTED));
        let digits = scale.decimals(1.0);
        for tick in &scale.ticks {
            let y = down(*tick);
            canvas.line(
                (left + LEFT, y),
                (left + WIDTH - RIGHT, y),
                GRID.into(),
                1.0,
            );
            let text = format!("{tick:.digits$}");
            canvas.text(
                &text,
                (left + LEFT - 8.0, y),
                Lettering::new(SIZE, MUTED).right(),
            );
        }
        let floor = HEIGHT - BOTTOM;
        for (x, name) in &self.ticks {
            canvas.line(
                (across(*x), floor),
                (across(*x), floor + 4.0),
                MUTED.into(),
                1.0,
            );
            canvas.text(
                name,
                (across(*x), floor + 15.0),
                Lettering::new(SIZE, MUTED).centred(),
            );
        }
        let middle = left + (LEFT + WIDTH - RIGHT) / 2.0;
        canvas.text(
            &self.below,
            (middle, floor + 35.0),
            Lettering::new(SIZE, MUTED).centred(),
        );
        // Broad ones below, so that curves that lie on each other are all seen.
        let mut curves: Vec<&Curve> = self.curves.iter().collect();
        curves.sort_by_key(|curve| Reverse(curve.series));
        for curve in curves {
            let ink = of_series(curve.series);
            let broad = 1.3 + 0.8 * curve.series as f64;
            let path: Vec<Point> = curve
                .points
                .iter()
                .map(|(x, y)| (across(*x), down(*y)))
                .collect();
            if path.len() > 1 {
                canvas.path(&path, ink.into(), broad);
            }
            for point in path {
                canvas.dot(point, 2.0 + 0.6 * broad, ink.into());
            }
        }
    }
}
