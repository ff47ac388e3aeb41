//! The left operand: rectangles of a source, packed block by block in the order in which the tiles read them.

use std::ops::Range;

use crate::element::{Element, KC, TERMS_AT_ONCE};
use crate::{Lines, Source};

/// Which way round a left operand is read, and how its blocks lie in scratch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Element `(i, k)` is that of the source, for `D P`.
    /// In the block it lies at `i * `[`ROWS_LD`](Element::ROWS_LD)` + k`, as it does in the source.
    Rows,
    /// Element `(i, k)` is `(k, i)` of the source, for `Dᵀ Q`.
    /// In the block the tiles follow each other; inside a tile it lies at `k * lead + i`, with `lead` the height of a
    /// tile rounded up to a power of two. So a tile reads one cache line per term.
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
            Layout::Rows => (168, TERMS_AT_ONCE),
            Layout::Cols => (336, KC),
        }
    }

    /// Elements of scratch memory that a block of `rows` rows needs.
    pub(crate) fn block_len<T: Element>(&self, rows: usize, height: usize) -> usize {
        let tiles = rows.div_ceil(height);
        match self.layout {
            Layout::Rows => tiles * height * T::ROWS_LD,
            Layout::Cols => tiles * tile_len(height),
        }
    }

    /// Where the tile that starts at row `row` of a block lies, from its term `term` on; `term` is a multiple of [`KC`].
    #[inline]
    pub(crate) fn offset<T: Element>(&self, row: usize, term: usize, height: usize) -> usize {
        match self.layout {
            Layout::Rows => row * T::ROWS_LD + term,
            Layout::Cols => row / height * tile_len(height) + term * lead(height),
        }
    }

    /// Packs a block; the last tile is filled up with zeros.
    pub(crate) fn pack<T: Element>(&self, block: &Block, height: usize, memory: &mut [T]) {
        match self.layout {
            Layout::Rows => self.pack_rows(block, height, memory),
            Layout::Cols => self.pack_cols(block, height, memory),
        }
    }

    fn pack_rows<T: Element>(&self, block: &Block, height: usize, memory: &mut [T]) {
        let Block { rows, terms } = block;
        T::pack(self.source, rows.clone(), terms.clone(), memory, T::ROWS_LD);
        for row in rows.len()..rows.len().next_multiple_of(height) {
            memory[row * T::ROWS_LD..][..terms.len()].fill(T::default());
        }
    }

    /// Packs some terms at a time and cuts them up while they are in the first-level cache.
    fn pack_cols<T: Element>(&self, block: &Block, height: usize, memory: &mut [T]) {
        /// Terms that are packed at a time.
        const SOME: usize = 8;
        /// Room for the widest block, its last tile filled up, and what the copy of that tile reads behind it.
        const LD: usize = 336 + 16;
        let lead = lead(height);
        let mut strip = [0.0_f32; SOME * LD];
        let width = block.rows.len();
        for first in block.terms.clone().step_by(SOME) {
            let some = first..block.terms.end.min(first + SOME);
            self.source
                .pack(some.clone(), block.rows.clone(), &mut strip, LD);
            for (k, line) in some.zip(strip.chunks_exact_mut(LD)) {
                line[width..].fill(0.0);
                let at = (k - block.terms.start) * lead;
                let tiles = memory.chunks_exact_mut(tile_len(height));
                match lead {
                    16 => cut::<T, 16>(line, height, at, tiles),
                    8 => cut::<T, 8>(line, height, at, tiles),
                    _ => cut::<T, 4>(line, height, at, tiles),
                }
            }
        }
    }
}

/// Distance of two terms in a tile of a [`Layout::Cols`] block.
pub(crate) const fn lead(height: usize) -> usize {
    height.next_power_of_two()
}

/// Elements of a tile of a [`Layout::Cols`] block; the line in excess keeps the tiles in different sets of the cache.
const fn tile_len(height: usize) -> usize {
    KC * lead(height) + 16
}

/// Copies one term to place `at` of every tile, `LEAD` elements each, of which those behind the height are not used.
#[inline]
fn cut<'a, T: Element, const LEAD: usize>(
    line: &[f32],
    height: usize,
    at: usize,
    tiles: impl Iterator<Item = &'a mut [T]>,
) {
    let pieces = line.windows(LEAD).step_by(height);
    for (tile, piece) in tiles.zip(pieces) {
        if let (Some(to), Some(from)) = (tile[at..].first_chunk_mut::<LEAD>(), piece.first_chunk())
        {
            *to = from.map(T::from_f32);
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
