//! Arms by what they cost and what they give: a dot for each, with its interval and its name.

use super::{
    axis::Axis,
    canvas::{Canvas, Lettering, Point, draw},
    intervals::Interval,
    palette::{GRID, MUTED, TEXT, of_series},
    unit::Unit,
};
use crate::Result;

/// The whole figure.
#[derive(Clone, Debug)]
pub(crate) struct Cloud {
    /// What the horizontal axis is, without its unit.
    pub(crate) across: String,
    /// What the vertical axis is.
    pub(crate) up: String,
    pub(crate) dots: Vec<Dot>,
}

/// One arm.
#[derive(Clone, Debug)]
pub(crate) struct Dot {
    pub(crate) name: String,
    /// Which ink it has.
    pub(crate) series: usize,
    /// What it costs.
    pub(crate) bytes: f64,
    pub(crate) y: Interval,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 64.0;
/// Room for the names of dots at the right end.
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 46.0;
/// Names are so far apart, up and down.
const APART: f64 = 15.0;
/// Names whose dots are farther apart than this do not touch.
const WIDE: f64 = 160.0;

impl Dot {
    fn gigabytes(&self) -> f64 {
        1e-9 * self.bytes
    }
}

impl Cloud {
    /// Draws it.
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let xs = Axis::linear(self.dots.iter().map(Dot::gigabytes), &[0.0]);
        let ends = self.dots.iter().flat_map(|dot| [dot.y.lo, dot.y.hi]);
        let ys = Axis::linear(ends, &[0.0]);
        let place = |x: f64, y: f64| -> Point {
            let across = WIDTH - LEFT - RIGHT;
            let up = HEIGHT - TOP - BOTTOM;
            (
                LEFT + across * xs.position(x),
                TOP + up * (1.0 - ys.position(y)),
            )
        };
        draw(name, (WIDTH, HEIGHT), |canvas| {
            axes(
                canvas,
                (&xs, &ys),
                (&format!("{}, GB", self.across), &self.up),
            );
            let dots: Vec<Point> = self
                .dots
                .iter()
                .map(|dot| place(dot.gigabytes(), dot.y.value))
                .collect();
            let labels = labels(&dots);
            for (dot, label) in dots.iter().zip(&labels) {
                // A name that had to move is tied to its dot.
                if label.1 - dot.1 > APART {
                    canvas.line(*dot, (label.0 - 3.0, label.1), GRID.into(), 1.0);
                }
            }
            for (dot, label) in self.dots.iter().zip(labels) {
                let ink = of_series(dot.series);
                let (low, high) = (
                    place(dot.gigabytes(), dot.y.lo),
                    place(dot.gigabytes(), dot.y.hi),
                );
                canvas.line(low, high, ink.into(), 2.0);
                canvas.mark(
                    dot.series,
                    place(dot.gigabytes(), dot.y.value),
                    5.0,
                    ink.into(),
                );
                canvas.text(&dot.name, label, Lettering::new(12.0, TEXT));
            }
        })
    }
}

fn axes(canvas: &mut Canvas<'_>, (xs, ys): (&Axis, &Axis), (across, up): (&str, &str)) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (tick, text) in ys.ticks(Unit::Percent) {
        let y = TOP + (bottom - TOP) * (1.0 - ys.position(tick));
        canvas.line((LEFT, y), (right, y), GRID.into(), 1.0);
        canvas.text(&text, (LEFT - 8.0, y), Lettering::new(11.0, MUTED).right());
    }
    for (tick, text) in xs.ticks(Unit::Plain) {
        let x = LEFT + (right - LEFT) * xs.position(tick);
        canvas.line((x, TOP), (x, bottom), GRID.into(), 1.0);
        canvas.text(
            &text,
            (x, bottom + 13.0),
            Lettering::new(11.0, MUTED).centred(),
        );
    }
    canvas.text(up, (LEFT - 50.0, 16.0), Lettering::new(12.0, MUTED));
    let middle = (0.5 * (LEFT + right), bottom + 32.0);
    canvas.text(across, middle, Lettering::new(12.0, MUTED).centred());
}

/// Where the names stand: right of the dots, and moved down where two would touch.
fn labels(dots: &[Point]) -> Vec<Point> {
    let mut order: Vec<usize> = (0..dots.len()).collect();
    order.sort_by(|a, b| dots[*a].1.total_cmp(&dots[*b].1));
    let mut placed: Vec<(usize, Point)> = Vec::new();
    for at in order {
        let (x, mut y) = (dots[at].0 + 10.0, dots[at].1);
        for (_, other) in &placed {
            if (other.0 - x).abs() < WIDE && y < other.1 + APART && y > other.1 - APART {
                y = other.1 + APART;
            }
        }
        placed.push((at, (x, y)));
    }
    placed.sort_by_key(|(at, _)| *at);
    placed.into_iter().map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_near_dots_do_not_touch() {
        let dots = [(100.0, 50.0), (104.0, 52.0), (100.0, 55.0), (700.0, 51.0)];
        let labels = labels(&dots);
        let mut near: Vec<f64> = labels[..3].iter().map(|point| point.1).collect();
        near.sort_by(f64::total_cmp);
        assert!(
            near.windows(2)
                .all(|pair| pair[1] - pair[0] >= APART - 1e-9),
            "{near:?}"
        );
        assert_eq!(labels[3].1, 51.0);
    }

    #[test]
    fn every_arm_is_a_dot_with_its_name() {
        let dot = |name: &str, x: f64| Dot {
            name: name.to_owned(),
            series: 0,
            bytes: 1e9 * x,
            y: Interval {
                value: 0.4,
                lo: 0.35,
                hi: 0.45,
            },
        };
        let figure = Cloud {
            across: "memory".to_owned(),
            up: "macro".to_owned(),
            dots: vec![dot("A", 36.0), dot("C", 34.0)],
        };
        let svg = figure.render("x").expect("draws");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("\nA\n") && svg.contains("\nC\n"));
    }

    #[test]
    fn a_name_that_moved_away_is_tied_to_its_dot() {
        let lines = |count: usize| {
            let dot = |at: usize| Dot {
                name: format!("arm{at}"),
                series: 0,
                bytes: 1e9,
                y: Interval {
                    value: 0.4,
                    lo: 0.4,
                    hi: 0.4,
                },
            };
            let figure = Cloud {
                across: "memory".to_owned(),
                up: "macro".to_owned(),
                dots: (0..count).map(dot).collect(),
            };
            let svg = figure.render("x").expect("draws");
            svg.matches("<polyline").count() + svg.matches("<line").count()
        };
        // Each dot has the line of its interval; the third and the fourth also one to its name.
        assert_eq!(lines(4) - lines(2), 2 + 2);
    }
}
