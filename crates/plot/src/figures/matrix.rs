//! Shares by two names: a cell for each, as dark as its share is large, with the number in it.

use super::{
    canvas::{Canvas, Lettering, draw},
    palette::{MUTED, TEXT},
    ramp,
};
use crate::Result;

/// The whole figure.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    /// Names of the rows, top to bottom.
    pub(crate) rows: Vec<String>,
    /// Names of the columns, left to right; they are broken at `_`.
    pub(crate) columns: Vec<String>,
    /// For each row, a share for each column.
    pub(crate) values: Vec<Vec<Option<f64>>>,
}

const WIDTH: f64 = 960.0;
const CELL: f64 = 24.0;
const LETTER: f64 = 7.7;
/// Between the lines of a column's name.
const LINE: f64 = 14.0;

impl Matrix {
    /// Draws it.
    pub(crate) fn render(&self, name: &str) -> Result<String> {
        let lines = self
            .columns
            .iter()
            .map(|name| name.split('_').count())
            .max();
        let head = 12.0 + LINE * lines.unwrap_or(1) as f64;
        let height = head + CELL * self.rows.len() as f64 + 8.0;
        let longest = self.rows.iter().map(|name| name.chars().count()).max();
        let left = (24.0 + LETTER * longest.unwrap_or(0) as f64).max(86.0);
        let width = (WIDTH - left - 4.0) / self.columns.len().max(1) as f64;
        draw(name, (WIDTH, height), |canvas| {
            for (at, name) in self.columns.iter().enumerate() {
                let x = left + width * (at as f64 + 0.5);
                column_name(canvas, name, (x, head));
            }
            for (row, name) in self.rows.iter().enumerate() {
                let y = head + CELL * row as f64;
                let label = Lettering::new(12.0, TEXT).right();
                canvas.text(name, (left - 8.0, y + 0.5 * CELL), label);
                for (column, value) in self.values[row].iter().enumerate() {
                    cell(canvas, *value, (left + width * column as f64, y), width);
                }
            }
        })
    }
}

/// The words of a name above each other, the last one at the foot.
fn column_name(canvas: &mut Canvas<'_>, name: &str, (x, foot): (f64, f64)) {
    let label = Lettering::new(11.0, MUTED).centred();
    for (up, word) in name.split('_').rev().enumerate() {
        canvas.text(word, (x, foot - 9.0 - LINE * up as f64), label);
    }
}

fn cell(canvas: &mut Canvas<'_>, value: Option<f64>, (x, y): (f64, f64), width: f64) {
    let middle = (x + 0.5 * width, y + 0.5 * CELL);
    let Some(value) = value else {
        canvas.text("–", middle, Lettering::new(11.0, MUTED).centred());
        return;
    };
    let share = value.clamp(0.0, 1.0);
    canvas.rectangle(
        (x, y),
        (x + width - 1.0, y + CELL - 1.0),
        ramp::colour(share),
    );
    let label = Lettering::new(11.0, ramp::ink(share)).bold().centred();
    canvas.text(&format!("{:.0} %", 100.0 * value), middle, label);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_broken_and_cells_have_numbers() {
        let figure = Matrix {
            rows: vec!["base".to_owned(), "tuned".to_owned()],
            columns: vec!["crispr_delivery".to_owned(), "screen".to_owned()],
            values: vec![vec![Some(0.1), None], vec![Some(0.9), Some(0.346)]],
        };
        let svg = figure.render("x").expect("draws");
        for text in ["\ncrispr\n", "\ndelivery\n", "\n90 %\n", "\n35 %\n"] {
            assert!(svg.contains(text), "{text:?}");
        }
        assert_eq!(
            svg.matches("<rect").count(),
            3 + 1,
            "three cells and the paper"
        );
    }
}
