//! What wholes are made of: a bar for each, in pieces that stand beside each other in one order.

use super::{
    canvas::{Canvas, Lettering, draw},
    palette::{PAPER, TEXT, of_series},
};
use crate::Result;

/// The whole figure.
#[derive(Clone, Debug)]
pub(crate) struct Portions {
    /// Names of the bars, top to bottom.
    pub(crate) rows: Vec<String>,
    /// Names of the pieces, left to right.
    pub(crate) pieces: Vec<String>,
    /// For each bar, how much of each piece it has.
    pub(crate) counts: Vec<Vec<f64>>,
}

const WIDTH: f64 = 960.0;
const HEAD: f64 = 40.0;
const LINE: f64 = 22.0;
const LETTER: f64 = 7.7;
/// Room for the whole.
const VALUES: f64 = 60.0;
/// A piece that is narrower has no number.
const NUMBER: f64 = 30.0;

impl Portions {
    /// Draws it.
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let height = HEAD + LINE * self.rows.len() as f64 + 8.0;
        let longest = self.rows.iter().map(|name| name.chars().count()).max();
        let left = (30.0 + LETTER * longest.unwrap_or(0) as f64).max(86.0);
        draw(name, (WIDTH, height), |canvas| {
            self.legend(canvas, left);
            for (row, name) in self.rows.iter().enumerate() {
                let y = HEAD + LINE * row as f64;
                let label = Lettering::new(13.0, TEXT).right();
                canvas.text(name, (left - 14.0, y + 0.5 * LINE), label);
                bar(canvas, &self.counts[row], (left, y));
            }
        })
    }

    fn legend(&self, canvas: &mut Canvas<'_>, left: f64) {
        let mut x = left;
        for (piece, name) in self.pieces.iter().enumerate() {
            canvas.rectangle((x, 13.0), (x + 12.0, 25.0), of_series(piece).into());
            canvas.text(name, (x + 18.0, 19.0), Lettering::new(12.0, TEXT));
            x += 18.0 + LETTER * name.chars().count() as f64 + 24.0;
        }
    }
}

fn bar(canvas: &mut Canvas<'_>, counts: &[f64], (left, y): (f64, f64)) {
    let whole: f64 = counts.iter().sum();
    let room = WIDTH - left - VALUES;
    let mut x = left;
    for (piece, count) in counts.iter().enumerate() {
        let width = room * count / whole.max(1.0);
        let (from, to) = ((x, y + 3.0), (x + width, y + LINE - 3.0));
        canvas.rectangle(from, to, of_series(piece).into());
        if width >= NUMBER {
            let label = Lettering::new(11.0, PAPER).bold().centred();
            canvas.text(
                &format!("{count:.0}"),
                (x + 0.5 * width, y + 0.5 * LINE),
                label,
            );
        }
        x += width;
    }
    let label = Lettering::new(12.0, TEXT).right();
    canvas.text(&format!("{whole:.0}"), (WIDTH - 8.0, y + 0.5 * LINE), label);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole_and_small_ones_have_no_number() {
        let figure = Portions {
            rows: vec!["tuned".to_owned()],
            pieces: vec!["right".to_owned(), "wrong".to_owned()],
            counts: vec![vec![432.0, 1.0]],
        };
        let svg = figure.render("x").expect("draws");
        assert!(svg.contains("\n432\n") && svg.contains("\n433\n"), "{svg}");
        assert!(!svg.contains("\n1\n"), "{svg}");
    }
}
