//! The left operand: rectangles of a source, packed block by block in the order in which the tiles read them.

use std::ops::Range;

use crate::element::{COLS_BY, Element, ROWS_BY, TERMS_AT_ONCE};
use crate::{Lines, Source};

/// Which way round a left operand is read, and how its blocks lie in scratch memory: as they do in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Element `(i, k)` is that of the source, for `D P`; in the block at `i * `[`ROWS_LD`](Element::ROWS_LD)` + k`.
    /// It is broadcast, and the lanes of a vector run along the columns of `P`.
    Rows,
    /// Element `(i, k)` is `(k, i)` of the source, for `Dᵀ Q`; in the block at `k * `[`COLS_LD`](Element::COLS_LD)` + i`.
    /// The lanes run along it, and the elements of `Q` are broadcast: so neither operand is ever transposed, only the
    /// result is.
    Cols,
}

/// A source as the left operand.
#[derive(Debug)]
pub(crate) struct Left<'a, S: ?Sized> {
    pub(crate) source: &'a S,
    pub(crate) layout: Layout,
}

impl<S: ?Sized> Clone for Left<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: ?Sized> Copy for Left<'_, S> {}

impl<S: Source + ?Sized> Left<'_, S> {
    /// Rows of the result, and terms.
    pub(crate) fn shape(&self) -> (usize, usize) {
        match self.layout {
            Layout::Rows => (self.source.rows(), self.source.cols()),
            Layout::Cols => (self.source.cols(), self.source.rows()),
        }
    }

    /// Largest extents of a block: along the rows of the result, and along the terms.
    ///
    /// An f32 block takes 340 KiB of a second-level cache. Its rows in the source are long enough to keep the number of
    /// memory pages that are touched at a time small.
    pub(crate) fn block_shape(&self) -> (usize, usize) {
        match self.layout {
            Layout::Rows => (ROWS_BY, TERMS_AT_ONCE),
            Layout::Cols => (COLS_BY, TERMS_AT_ONCE / 4),
        }
    }

    /// Elements of scratch memory that a block needs.
    pub(crate) fn block_len<T: Element>(&self) -> usize {
        let (rows, terms) = self.block_shape();
        match self.layout {
            Layout::Rows => rows * T::ROWS_LD,
            Layout::Cols => terms * T::COLS_LD,
        }
    }

    /// Where element `(row, term)` of a block lies.
    #[inline]
    pub(crate) fn offset<T: Element>(&self, row: usize, term: usize) -> usize {
        match self.layout {
            Layout::Rows => row * T::ROWS_LD + term,
            Layout::Cols => term * T::COLS_LD + row,
        }
    }

    /// Packs a block, and fills it up with zeros to `padded` rows of the result.
    pub(crate) fn pack<T: Element>(&self, block: &Block, padded: usize, memory: &mut [T]) {
        let Block { rows, terms } = block;
        match self.layout {
            Layout::Rows => {
                T::pack(self.source, rows.clone(), terms.clone(), memory, T::ROWS_LD);
                for row in rows.len()..padded {
                    memory[row * T::ROWS_LD..][..terms.len()].fill(T::default());
                }
            }
            Layout::Cols => {
                T::pack(self.source, terms.clone(), rows.clone(), memory, T::COLS_LD);
                for line in memory.chunks_mut(T::COLS_LD).take(terms.len()) {
                    line[rows.len()..padded].fill(T::default());
                }
            }
        }
    }
}

/// A rectangle of the left operand.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Rows of the result.
    pub(crate) rows: Range<usize>,
    /// Terms of the sum.
    pub(crate) terms: Range<usize>,
}

impl Block {
    /// The part of at most `by` terms from `start` on.
    pub(crate) fn some_terms(&self, start: usize, by: usize) -> Self {
        Self {
            rows: self.rows.clone(),
            terms: start..self.terms.end.min(start + by),
        }
    }
}

/// The next block, asked for part by part between the tiles of the present one, so that memory works while the kernels do.
#[derive(Debug)]
pub(crate) struct Ahead<'a, S: ?Sized> {
    left: Left<'a, S>,
    next: Block,
    step: usize,
    steps: usize,
    lines: Lines,
}

impl<'a, S: Source + ?Sized> Ahead<'a, S> {
    /// Spreads the lines of `next` over `steps` steps.
    pub(crate) fn new(left: Left<'a, S>, next: Block, steps: usize) -> Self {
        Self {
            left,
            next,
            step: 0,
            steps,
            lines: Lines::new(),
        }
    }

    /// The lines of the next step.
    #[inline]
    pub(crate) fn step(&mut self) -> &Lines {
        let (step, steps) = (self.step, self.steps);
        self.step += 1;
        self.lines.clear();
        let part = |range: &Range<usize>| {
            let at = |step| range.start + range.len() * step / steps;
            at(step)..at(step + 1)
        };
        let Block { rows, terms } = &self.next;
        match self.left.layout {
            Layout::Rows => self
                .left
                .source
                .ahead(part(rows), terms.clone(), &mut self.lines),
            Layout::Cols => self
                .left
                .source
                .ahead(part(terms), rows.clone(), &mut self.lines),
        }
        &self.lines
    }
}
