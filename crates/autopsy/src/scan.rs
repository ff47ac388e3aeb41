//! One pass over a weight, with its reference beside it: the statistics of every block.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::error::Result;
use crate::moments::{Moments, Pairs};
use crate::numbers::{BLOCK, Numbers, Strip, TILE, TILE_ROWS};

/// Bytes between two looks at whether to go on, at four bytes a number.
const GROUP_BYTES: usize = 256 << 20;

/// What is known of one block of at most 128 × 128 numbers.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) moments: Moments,
    /// Codes at the largest value of their format.
    pub(crate) saturated: u64,
    /// Against the reference; empty without one.
    pub(crate) pairs: Pairs,
}

impl Block {
    fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        self.saturated += other.saturated;
        self.pairs.merge(&other.pairs);
    }
}

/// The statistics of a weight.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Row-major, `[rows / 128, cols / 128]` rounded up.
    pub(crate) blocks: Vec<Block>,
    /// Of all blocks, merged in their order.
    pub(crate) total: Block,
    /// Rows of nothing but zeros (and, with a reference, that are not so there).
    pub(crate) zero_rows: u64,
    pub(crate) first_zero_row: Option<usize>,
}

impl Scan {
    pub(crate) fn grid_cols(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// Rows and columns of the block at an index.
    pub(crate) fn place(&self, at: usize) -> (Range<usize>, Range<usize>) {
        let (i, j) = (at / self.grid_cols(), at % self.grid_cols());
        (span(i, self.rows), span(j, self.cols))
    }
}

/// Reads a weight, and its reference if there is one, in one pass.
///
/// Bands of 128 rows are shared out to rayon's current pool; sums are merged in the order of the blocks, so the result
/// does not depend on the number of threads. `progress` is told of rows that are done.
///
/// **Shapes** `reference` has the shape of `numbers`.
pub(crate) fn scan(
    numbers: &Numbers<'_>,
    reference: Option<&Numbers<'_>>,
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<Scan> {
    let (rows, cols) = (numbers.rows, numbers.cols);
    let bands: Vec<usize> = (0..rows.div_ceil(BLOCK)).collect();
    let group = (GROUP_BYTES / (4 * BLOCK * cols.max(1))).max(rayon::current_num_threads());
    let mut scan = Scan {
        rows,
        cols,
        blocks: Vec::with_capacity(bands.len() * cols.div_ceil(BLOCK)),
        total: Block::default(),
        zero_rows: 0,
        first_zero_row: None,
    };
    let scratch = Pool::default();
    for group in bands.chunks(group) {
        let done: Vec<Band> = group
            .par_iter()
            .map(|&band| {
                scratch.lend(|scratch| scan_band(numbers, reference, span(band, rows), scratch))
            })
            .collect::<Result<_>>()?;
        for band in done {
            scan.zero_rows += band.zero_rows;
            scan.first_zero_row = scan.first_zero_row.or(band.first_zero_row);
            scan.blocks.extend(band.blocks);
        }
        let before = group[0] * BLOCK;
        progress((before + group.len() * BLOCK).min(rows) - before)?;
    }
    for block in &scan.blocks {
        scan.total.merge(block);
    }
    Ok(scan)
}

/// The part of a dimension that block `i` covers.
fn span(i: usize, len: usize) -> Range<usize> {
    i * BLOCK..len.min((i + 1) * BLOCK)
}

/// What a thread keeps between bands: a tile of each side, decoded.
struct Scratch {
    xs: Vec<f32>,
    ys: Vec<f32>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            xs: vec![0.0; TILE],
            ys: vec![0.0; TILE],
        }
    }
}

/// As many of them as threads have been at work at once, so that their memory is touched for the first time only once.
#[derive(Default)]
struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    fn lend<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = idle().pop().unwrap_or_default();
        let result = work(&mut scratch);
        idle().push(scratch);
        result
    }
}

struct Band {
    blocks: Vec<Block>,
    zero_rows: u64,
    first_zero_row: Option<usize>,
}

fn scan_band(
    numbers: &Numbers<'_>,
    reference: Option<&Numbers<'_>>,
    rows: Range<usize>,
    scratch: &mut Scratch,
) -> Result<Band> {
    let mut band = Band {
        blocks: vec![Block::default(); numbers.cols.div_ceil(BLOCK)],
        zero_rows: 0,
        first_zero_row: None,
    };
    let side = Side {
        numbers,
        strip: numbers.strip(&rows)?,
    };
    let reference = match reference {
        Some(numbers) => Some(Side {
            numbers,
            strip: numbers.strip(&rows)?,
        }),
        None => None,
    };
    // Tiles side by side first: so the file is read forwards, from as many places as a tile has rows.
    for row in rows.clone().step_by(TILE_ROWS) {
        let tile = row..rows.end.min(row + TILE_ROWS);
        for (j, block) in band.blocks.iter_mut().enumerate() {
            let cols = span(j, numbers.cols);
            scan_tile(
                &side,
                reference.as_ref(),
                tile.clone(),
                cols,
                scratch,
                block,
            );
        }
    }
    // A row of zeros begins with as many zeros as the first block has columns.
    let enough = span(0, numbers.cols).len() as u64;
    if band
        .blocks
        .first()
        .is_some_and(|b| b.moments.zeros >= enough)
    {
        for row in rows {
            let zero = is_zero(&side, row) && !reference.as_ref().is_some_and(|r| is_zero(r, row));
            if zero {
                band.zero_rows += 1;
                band.first_zero_row.get_or_insert(row);
            }
        }
    }
    Ok(band)
}

/// A weight, or its reference, and the rows of it that are looked at.
struct Side<'a> {
    numbers: &'a Numbers<'a>,
    strip: Strip,
}

fn scan_tile(
    side: &Side<'_>,
    reference: Option<&Side<'_>>,
    rows: Range<usize>,
    cols: Range<usize>,
    scratch: &mut Scratch,
    block: &mut Block,
) {
    let (numbers, strip) = (side.numbers, &side.strip);
    block.saturated += numbers.saturated(strip, rows.clone(), &cols);
    let taken = numbers.with_bf16(strip, &rows, &cols, |tile| {
        block.moments.add_bf16(numbers.isa, tile)
    });
    let taken = taken == Some(true);
    if taken && reference.is_none() {
        return;
    }
    let size = rows.len() * cols.len();
    let xs = &mut scratch.xs[..size];
    numbers.tile(strip, rows.clone(), cols.clone(), xs);
    if !taken {
        block.moments.add(numbers.isa, xs);
    }
    if let Some(reference) = reference {
        let ys = &mut scratch.ys[..size];
        reference.numbers.tile(&reference.strip, rows, cols, ys);
        block.pairs.add(numbers.isa, xs, ys);
    }
}

fn is_zero(Side { numbers, strip }: &Side<'_>, row: usize) -> bool {
    (0..numbers.cols.div_ceil(BLOCK)).all(|j| {
        let cols = span(j, numbers.cols);
        let mut tile = [0f32; BLOCK];
        let tile = &mut tile[..cols.len()];
        numbers.tile(strip, row..row + 1, cols, tile);
        tile.iter().all(|x| *x == 0.0)
    })
}
