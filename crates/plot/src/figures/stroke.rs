//! How a series of curves is drawn: an ink, a mark and a breadth.
//!
//! Curves that lie on each other are all seen, because broad ones are drawn first and thin ones over them; in print without
//! colours marks and breadths tell them apart.

use super::{
    canvas::{Canvas, Point},
    palette::{GRID, Ink, PAPER, of_series},
};

/// The look of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stroke {
    ink: Ink,
    /// Which shape its marks have; a band has none.
    mark: Option<usize>,
    hollow: bool,
    broad: f64,
}

impl Stroke {
    /// Of a series that has no meaning beyond its place: each has an ink and a mark of its own, later ones are broader.
    pub(crate) fn of_place(place: usize) -> Self {
        Self {
            ink: of_series(place),
            mark: Some(place),
            hollow: false,
            broad: 1.3 + 0.6 * place as f64,
        }
    }

    /// The ink and the mark of a method, the same in every figure: A, B, C. B is thin and lies over A, C is below both.
    pub(crate) fn of_method(method: &str) -> Self {
        let (place, broad) = match method {
            "A" => (0, 3.8),
            "B" => (1, 1.5),
            _ => (2, 5.6),
        };
        Self {
            ink: of_series(place),
            mark: Some(place),
            hollow: false,
            broad,
        }
    }

    /// A lesser form of the same series: thinner, with hollow marks.
    pub(crate) fn lesser(self) -> Self {
        Self {
            hollow: true,
            broad: 0.6 * self.broad,
            ..self
        }
    }

    /// A broad pale band that a curve may lie on.
    pub(crate) fn band() -> Self {
        Self {
            ink: GRID,
            mark: None,
            hollow: false,
            broad: 10.0,
        }
    }

    /// Broader ones are drawn first.
    pub(super) fn breadth(&self) -> f64 {
        self.broad
    }

    pub(super) fn line(&self, canvas: &mut Canvas<'_>, path: &[Point]) {
        if path.len() > 1 {
            canvas.path(path, self.ink.into(), self.broad);
        }
    }

    pub(super) fn marks(&self, canvas: &mut Canvas<'_>, path: &[Point]) {
        let Some(shape) = self.mark else { return };
        let radius = 2.2 + 0.6 * self.broad.min(4.0);
        for point in path {
            canvas.mark(shape, *point, radius, self.ink.into());
            if self.hollow {
                canvas.mark(shape, *point, 0.5 * radius, PAPER.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_differ_in_ink_mark_and_breadth_and_ranks_of_one_share_the_first_two() {
        let [a, b, c] = ["A", "B", "C"].map(Stroke::of_method);
        for (one, other) in [(a, b), (b, c), (a, c)] {
            assert!(one.ink != other.ink && one.mark != other.mark);
            assert!((one.broad - other.broad).abs() > 1.0);
        }
        assert_eq!((a.lesser().ink, a.lesser().mark), (a.ink, a.mark));
        assert!(a.lesser().hollow && a.lesser().broad < a.broad);
    }
}
