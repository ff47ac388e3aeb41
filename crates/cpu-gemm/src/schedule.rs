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
use crate::transpose::transpose;

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
        let at_once = (PANEL / cols / TERMS_AT_ONCE).max(1) * TERMS_AT_ONCE;
        for first in (0..terms).step_by(at_once) {
            let terms = first..terms.min(first + at_once);
            let by = self.block_rows::<T>(isa, rows, rows * cols * terms.len());
            let panel = Panel::pack(&self.right, terms.clone(), self.strip_width::<T>(isa));
            let fresh = start == Start::Zero && first == 0;
            let work = |(i, out): (usize, &mut [T])| {
                let rows = i * by..i * by + out.len() / cols;
                let all = Block {
                    rows,
                    terms: terms.clone(),
                };
                match self.left.layout {
                    Layout::Rows => self.block_row(isa, &all, &panel, fresh, out),
                    Layout::Cols => self.turned_block_row(isa, &all, &panel, fresh, out),
                }
            };
            if by >= rows {
                work((0, &mut *out));
            } else {
                out.par_chunks_mut(by * cols).enumerate().for_each(work);
            }
        }
    }

    /// Columns of the right operand in a strip of the panel.
    fn strip_width<T: Element>(&self, isa: Isa) -> usize {
        let (height, width) = T::tile_shape(isa, self.left.layout);
        match self.left.layout {
            Layout::Rows => width,
            Layout::Cols => height,
        }
    }

    /// Rows of the result that a tile takes.
    fn tile_rows<T: Element>(&self, isa: Isa) -> usize {
        let (height, width) = T::tile_shape(isa, self.left.layout);
        match self.left.layout {
            Layout::Rows => height,
            Layout::Cols => width,
        }
    }

    /// Rows of the result per block: whole tiles, not more than a block has room for, and so that the blocks come out even for the threads.
    fn block_rows<T: Element>(&self, isa: Isa, rows: usize, work: usize) -> usize {
        let most = self.left.block_shape().0;
        let threads = if work < SMALL {
            1
        } else {
            rayon::current_num_threads()
        };
        let blocks = rows.div_ceil(most).next_multiple_of(threads);
        rows.div_ceil(blocks)
            .next_multiple_of(self.tile_rows::<T>(isa))
            .min(most)
    }

    /// Adds some terms to some rows of the result, or overwrites them if they are `fresh`.
    fn block_row<T: Element>(
        &self,
        isa: Isa,
        all: &Block,
        panel: &Panel<T>,
        fresh: bool,
        out: &mut [T],
    ) {
        if fresh {
            out.fill(T::default());
        }
        let cols = self.right.shape().1;
        with_scratch(self.left.block_len::<T>(), |memory: &mut [T]| {
            self.blocks(
                isa,
                all,
                panel,
                memory,
                &mut View {
                    data: out,
                    ld: cols,
                    rows: all.rows.len(),
                    cols,
                },
            );
        });
    }

    /// The same by way of the transposed rows, filled up to whole tiles.
    fn turned_block_row<T: Element>(
        &self,
        isa: Isa,
        all: &Block,
        panel: &Panel<T>,
        fresh: bool,
        out: &mut [T],
    ) {
        let (rows, cols) = (all.rows.len(), self.right.shape().1);
        let block = self.left.block_len::<T>();
        with_scratch(block + cols * T::COLS_LD, |memory: &mut [T]| {
            let (memory, turned) = memory.split_at_mut(block);
            if fresh {
                turned.fill(T::default());
            } else {
                transpose(out, cols, turned, T::COLS_LD, rows, cols);
            }
            let padded = rows.next_multiple_of(self.tile_rows::<T>(isa));
            self.blocks(
                isa,
                all,
                panel,
                memory,
                &mut View {
                    data: turned,
                    ld: T::COLS_LD,
                    rows: cols,
                    cols: padded,
                },
            );
            transpose(turned, T::COLS_LD, out, cols, cols, rows);
        });
    }

    /// Packs block after block of the left operand, and runs the tiles of each.
    fn blocks<T: Element>(
        &self,
        isa: Isa,
        all: &Block,
        panel: &Panel<T>,
        memory: &mut [T],
        out: &mut View<'_, T>,
    ) {
        let (height, width) = T::tile_shape(isa, self.left.layout);
        let tiles = out.rows.div_ceil(height) * out.cols.div_ceil(width);
        let padded = all.rows.len().next_multiple_of(self.tile_rows::<T>(isa));
        let by = self.left.block_shape().1;
        for start in all.terms.clone().step_by(by) {
            let block = all.some_terms(start, by);
            self.left.pack(&block, padded, memory);
            let steps = tiles * block.terms.len().div_ceil(KC);
            let mut ahead = Ahead::new(self.left, self.next(all, &block, by), steps);
            for start in block.terms.clone().step_by(KC) {
                let memory = &memory[self.left.offset::<T>(0, start - block.terms.start)..];
                self.tiles(
                    isa,
                    &block.some_terms(start, KC),
                    panel,
                    memory,
                    &mut ahead,
                    out,
                );
            }
        }
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
        panel: &Panel<T>,
        memory: &[T],
        ahead: &mut Ahead<'_, L>,
        out: &mut View<'_, T>,
    ) {
        let layout = self.left.layout;
        let (height, width) = T::tile_shape(isa, layout);
        for col in (0..out.cols).step_by(width) {
            for row in (0..out.rows).step_by(height) {
                let ahead = ahead.step();
                let (strip, along) = match layout {
                    Layout::Rows => (col / width, row),
                    Layout::Cols => (row / height, col),
                };
                if self.lower && self.is_above_diagonal::<T>(isa, chunk.rows.start + along, strip) {
                    continue;
                }
                let tile = Tile {
                    terms: chunk.terms.len(),
                    block: &memory[self.left.offset::<T>(along, 0)..],
                    strip: panel.strip(chunk.terms.start, strip),
                    out: &mut out.data[row * out.ld + col..],
                    ld: out.ld,
                    rows: height.min(out.rows - row),
                    cols: width.min(out.cols - col),
                    ahead,
                };
                T::tile(isa, layout, tile);
            }
        }
    }

    /// Whether all columns of a strip are behind all rows of the result that a tile takes from `row` on.
    fn is_above_diagonal<T: Element>(&self, isa: Isa, row: usize, strip: usize) -> bool {
        strip * self.strip_width::<T>(isa) >= row + self.tile_rows::<T>(isa)
    }
}

/// Part of a result, as the tiles see it.
#[derive(Debug)]
struct View<'a, T> {
    data: &'a mut [T],
    ld: usize,
    rows: usize,
    cols: usize,
}
