//! How a product is cut into blocks, and how the blocks are spread over threads.
//!
//! Only rows of the result are spread, so each element is summed by one thread, in the order of [`reference`](crate::reference).

use rayon::prelude::*;

use crate::Source;
use crate::arch::{Isa, Tile};
use crate::element::{Element, KC, TERMS_AT_ONCE};
use crate::left::{Ahead, Block, Layout, Left};
use crate::panel::{Panel, Right};
use crate::scratch::with_scratch;

/// What a result is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Zero,
    Keep,
}

/// A product whose left operand is cut into blocks and whose right one is packed as a panel.
#[derive(Debug)]
pub(crate) struct Product<'a, L: ?Sized, R: ?Sized> {
    left: Left<'a, L>,
    right: Right<'a, R>,
    /// Only tiles that touch the lower triangle are computed.
    lower: bool,
}

/// Elements of a panel that are packed at a time: 16 MiB of f32.
const PANEL: usize = 4 << 20;

/// Multiply-adds below which a second thread costs more than it brings.
const SMALL: usize = 1 << 18;

impl<'a, L: Source + ?Sized, R: Source + ?Sized> Product<'a, L, R> {
    pub(crate) fn new(source: &'a L, layout: Layout, right: Right<'a, R>) -> Self {
        Self {
            left: Left { source, layout },
            right,
            lower: false,
        }
    }

    /// Leaves out the tiles above the diagonal.
    pub(crate) fn lower(self) -> Self {
        Self {
            lower: true,
            ..self
        }
    }

    /// Computes into `out`, `[rows, cols]` row-major.
    pub(crate) fn run<T: Element>(&self, isa: Isa, start: Start, out: &mut [T]) {
        let ((rows, terms), (right_terms, cols)) = (self.left.shape(), self.right.shape());
        assert_eq!(
            terms, right_terms,
            "the operands have different numbers of terms"
        );
        assert_eq!(out.len(), rows * cols, "length of the result");
        if start == Start::Zero && terms == 0 {
            out.fill(T::default());
        }
        if out.is_empty() {
            return;
        }
        let (height, width) = T::tile_shape(isa);
        let at_once = (PANEL / cols / TERMS_AT_ONCE).max(1) * TERMS_AT_ONCE;
        for first in (0..terms).step_by(at_once) {
            let some = first..terms.min(first + at_once);
            let panel = Panel::pack(&self.right, some.clone(), width);
            let block = block_rows(
                rows,
                self.left.block_shape().0,
                height,
                rows * cols * some.len(),
            );
            let work = |(i, out): (usize, &mut [T])| {
                if start == Start::Zero && first == 0 {
                    out.fill(T::default());
                }
                let rows = i * block..i * block + out.len() / cols;
                self.block_row(
                    isa,
                    &Block {
                        rows,
                        terms: some.clone(),
                    },
                    &panel,
                    out,
                );
            };
            if block >= rows {
                work((0, &mut *out));
            } else {
                out.par_chunks_mut(block * cols).enumerate().for_each(work);
            }
        }
    }

    /// Adds some terms to some rows of the result, block by block.
    fn block_row<T: Element>(&self, isa: Isa, all: &Block, panel: &Panel<T>, out: &mut [T]) {
        let height = T::tile_shape(isa).0;
        let tiles = all.rows.len().div_ceil(height) * panel.strips();
        with_scratch(
            self.left.block_len::<T>(all.rows.len(), height),
            |memory: &mut [T]| {
                let by = self.left.block_shape().1;
                for start in all.terms.clone().step_by(by) {
                    let block = all.some_terms(start, by);
                    self.left.pack(&block, height, memory);
                    let steps = tiles * block.terms.len().div_ceil(KC);
                    let mut ahead = Ahead::new(self.left, self.next(all, &block, by), steps);
                    for start in block.terms.clone().step_by(KC) {
                        let chunk = block.some_terms(start, KC);
                        let left =
                            &memory[self.left.offset::<T>(0, start - block.terms.start, height)..];
                        self.tiles(isa, &chunk, left, panel, &mut ahead, out);
                    }
                }
            },
        );
    }

    /// The block that will probably come next: the next terms, or the first ones of the next rows.
    fn next(&self, all: &Block, block: &Block, by: usize) -> Block {
        if block.terms.end < all.terms.end {
            return all.some_terms(block.terms.end, by);
        }
        let rows = all.rows.end..self.left.shape().0.min(all.rows.end + all.rows.len());
        Block {
            rows,
            ..all.some_terms(all.terms.start, by)
        }
    }

    /// Adds one chunk of the terms: runs all tiles of a block.
    fn tiles<T: Element>(
        &self,
        isa: Isa,
        chunk: &Block,
        left: &[T],
        panel: &Panel<T>,
        ahead: &mut Ahead<'_, L>,
        out: &mut [T],
    ) {
        let (height, width) = T::tile_shape(isa);
        let (rows, cols) = (chunk.rows.len(), self.right.shape().1);
        for col in (0..cols).step_by(width) {
            let strip = panel.strip(chunk.terms.start, col / width);
            for row in (0..rows).step_by(height) {
                let ahead = ahead.step();
                if self.lower && col >= chunk.rows.start + row + height {
                    continue;
                }
                let tile = Tile {
                    terms: chunk.terms.len(),
                    left: &left[self.left.offset::<T>(row, 0, height)..],
                    strip,
                    out: &mut out[row * cols + col..],
                    ld: cols,
                    rows: height.min(rows - row),
                    cols: width.min(cols - col),
                    ahead,
                };
                T::tile(isa, self.left.layout, tile);
            }
        }
    }
}

/// Rows of the result per block: at most `most`, whole tiles, and so that the blocks come out even for the threads.
fn block_rows(rows: usize, most: usize, height: usize, work: usize) -> usize {
    let threads = if work < SMALL {
        1
    } else {
        rayon::current_num_threads()
    };
    let blocks = rows.div_ceil(most).next_multiple_of(threads);
    rows.div_ceil(blocks).next_multiple_of(height).min(most)
}
