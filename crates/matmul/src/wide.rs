//! Many rows of activations: a panel of weights is decoded to f32 once and multiplied from the cache.

use std::cell::RefCell;
use std::ops::Range;

use crate::format::{Format, UNIT, with_format};
use crate::lanes::{Isa, Job, LANES, Lanes};
use crate::packed::Line;
use crate::product::Target;
use crate::weights::Weights;

/// Rows of weights in a panel.
const PANEL_ROWS: usize = 32;
/// Columns of a panel: a panel is 128 KiB, and six rows of activations of that width fit the first-level cache.
const PANEL_COLS: usize = 1024;
/// Rows of weights of a tile; with six rows of activations it has 24 chains in 32 registers.
const R: usize = 4;
/// Sizes of groups of activations.
pub(crate) const SIZES: &[usize] = &[1, 2, 4, 6];

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// Decoded weights, tile by tile: `[PANEL_ROWS / R, vectors of a row, R]`.
    panel: Vec<Line>,
    /// Chains of the panel's rows, tile by tile: `[groups, PANEL_ROWS / R, rows of the group, R]`.
    chains: Vec<Line>,
}

/// The products of `target`'s rows of weights with all rows of activations.
#[inline(always)]
pub(crate) fn product<L: Lanes, F: Format>(lanes: L, format: &F, target: &mut Target<'_, '_>) {
    // Taken out and put back: a closure over it would be a function of its own, without vector instructions.
    let mut scratch = SCRATCH.take();
    scratch
        .panel
        .resize(PANEL_ROWS * PANEL_COLS / LANES, Line::default());
    let rows: usize = target.x.groups().iter().map(|group| group.size).sum();
    scratch.chains.resize(rows * PANEL_ROWS, Line::default());
    let rows = target.rows.clone();
    for first in rows.clone().step_by(PANEL_ROWS) {
        let panel = first..rows.end.min(first + PANEL_ROWS);
        panel_product(lanes, format, target, panel, &mut scratch);
    }
    SCRATCH.set(scratch);
}

#[inline(always)]
fn panel_product<L: Lanes, F: Format>(
    lanes: L,
    format: &F,
    target: &mut Target<'_, '_>,
    rows: Range<usize>,
    scratch: &mut Scratch,
) {
    let weights = target.weights;
    let tiles = rows.len().div_ceil(R);
    for from in (0..weights.cols()).step_by(PANEL_COLS) {
        let steps = PANEL_COLS.min(weights.cols() - from).div_ceil(LANES);
        for (place, row) in rows.clone().enumerate() {
            let to = &mut scratch.panel[place / R * steps * R + place % R..];
            decode::<L, F, R>(
                lanes,
                format,
                weights,
                (row, from),
                &mut to[..(steps - 1) * R + 1],
            );
        }
        let ahead = Ahead::new::<F>(weights, &rows, from, tiles * target.x.groups().len());
        let mut call = 0;
        for group in target.x.groups() {
            let x = &target.x.lines(group)[from / LANES * group.size..][..steps * group.size];
            let chains = &mut scratch.chains[group.first * PANEL_ROWS..];
            for tile in 0..tiles {
                let panel = &scratch.panel[tile * steps * R..][..steps * R];
                let chains = &mut chains[tile * R * group.size..][..R * group.size];
                let task = Tile {
                    x,
                    panel,
                    chains,
                    go_on: from > 0,
                    ahead: ahead.of_call(call),
                    stride: F::BITS * 2,
                };
                match group.size {
                    6 => task.multiply::<L, 6>(lanes),
                    4 => task.multiply::<L, 4>(lanes),
                    2 => task.multiply::<L, 2>(lanes),
                    _ => task.multiply::<L, 1>(lanes),
                }
                call += 1;
            }
        }
    }
    for group in target.x.groups() {
        let mut chains = &scratch.chains[group.first * PANEL_ROWS..];
        for row in rows.clone().step_by(R) {
            let tile;
            (tile, chains) = chains.split_at(group.size * R);
            for (m, chain) in tile.as_chunks::<R>().0.iter().enumerate().take(group.rows) {
                let mut v = [lanes.splat(0.0); R];
                for r in 0..R {
                    v[r] = lanes.load(&chain[r].0);
                }
                let sums = lanes.sum4(v);
                target.put(group.first + m, row, &sums[..R.min(rows.end - row)]);
            }
        }
    }
}

/// Some rows of decoded weights and a group of activations.
struct Tile<'a> {
    /// `[vectors, N]`.
    x: &'a [Line],
    /// `[vectors, R]`.
    panel: &'a [Line],
    /// `[N, R]`.
    chains: &'a mut [Line],
    /// Whether the terms are added to the chains, which begin at zero otherwise.
    go_on: bool,
    /// Bytes that are asked for, a few with every vector.
    ahead: [*const u8; 2],
    /// How many.
    stride: usize,
}

impl Tile<'_> {
    /// Adds the terms.
    #[inline(always)]
    fn multiply<L: Lanes, const N: usize>(self, lanes: L) {
        let mut sums = [[lanes.splat(0.0); R]; N];
        let chains = &mut self.chains.as_chunks_mut::<R>().0[..N];
        if self.go_on {
            for m in 0..N {
                for r in 0..R {
                    sums[m][r] = lanes.load(&chains[m][r].0);
                }
            }
        }
        let (x, panel) = (self.x.as_chunks::<N>().0, self.panel.as_chunks::<R>().0);
        for (step, (x, w)) in x.iter().zip(panel).enumerate() {
            for ahead in self.ahead {
                lanes.prefetch_second(ahead.wrapping_add(step * self.stride));
            }
            let mut v = [lanes.splat(0.0); R];
            for r in 0..R {
                v[r] = lanes.load(&w[r].0);
            }
            for m in 0..N {
                let x = lanes.load(&x[m].0);
                for r in 0..R {
                    sums[m][r] = lanes.fma(v[r], x, sums[m][r]);
                }
            }
        }
        for m in 0..N {
            for r in 0..R {
                lanes.store(sums[m][r], &mut chains[m][r].0);
            }
        }
    }
}

/// The weights of the panel after the present one, asked for while that is multiplied.
struct Ahead<'a> {
    weights: &'a Weights<'a>,
    rows: Range<usize>,
    /// The first byte of a row that is asked for.
    byte: usize,
    /// Tiles of the present panel.
    calls: usize,
}

impl<'a> Ahead<'a> {
    /// What follows columns from `from` on of `rows`.
    fn new<F: Format>(
        weights: &'a Weights<'a>,
        rows: &Range<usize>,
        from: usize,
        calls: usize,
    ) -> Self {
        let (mut rows, mut from) = (rows.clone(), from + PANEL_COLS);
        if from >= weights.cols() {
            from = 0;
            rows = rows.end..weights.rows().min(rows.end + PANEL_ROWS);
        }
        Self {
            weights,
            rows,
            byte: from * F::BITS / 8,
            calls,
        }
    }

    /// Two of its rows, so that all calls together see all: there are at least half as many calls as rows.
    fn of_call(&self, call: usize) -> [*const u8; 2] {
        [0, self.rows.len() / 2].map(|half| {
            let row = self.rows.start + (call * self.rows.len() + half) / self.calls;
            let row = self.weights.row(row.min(self.weights.rows() - 1));
            row.as_ptr().wrapping_add(self.byte)
        })
    }
}

/// Columns of a row from `at.1` on, a multiple of [`PANEL_COLS`], to every `BY`th vector of `out`; zeros beyond the last
/// column.
#[inline(always)]
fn decode<L: Lanes, F: Format, const BY: usize>(
    lanes: L,
    format: &F,
    weights: &Weights<'_>,
    at: (usize, usize),
    out: &mut [Line],
) {
    let (row, from) = at;
    let (line, by) = (format.line(row), format.group_cols());
    let bytes = &weights.row(row)[from * F::BITS / 8..];
    let steps = out.len().div_ceil(BY);
    let whole = steps.min((weights.cols() - from) / LANES);
    let units = F::units(bytes);
    let mut start = 0;
    while start < whole {
        let col = from + start * LANES;
        let group = format.group(lanes, line + col / by);
        let end = (col / by).saturating_add(1).saturating_mul(by) - from;
        let end = whole.min(end / LANES);
        if start.is_multiple_of(UNIT) {
            for unit in start / UNIT..end / UNIT {
                let to = &mut out[unit * UNIT * BY..][..(UNIT - 1) * BY + 1];
                decode_unit::<L, F, BY>(lanes, units[unit].as_ref(), group, to);
            }
            start = end / UNIT * UNIT;
        }
        for step in start..end {
            let part = &bytes[step * F::BITS * 2..][..F::BITS * 2];
            lanes.store(F::decode(lanes, part, group), &mut out[step * BY].0);
        }
        start = end;
    }
    if whole < steps {
        let col = from + whole * LANES;
        let part = &bytes[whole * F::BITS * 2..];
        let mut padded = [0; 64];
        padded[..part.len()].copy_from_slice(part);
        let group = format.group(lanes, line + col / by);
        let last = &mut out[whole * BY].0;
        lanes.store(F::decode(lanes, &padded[..F::BITS * 2], group), last);
        last[weights.cols() - col..].fill(0.0);
    }
}

#[inline(always)]
fn decode_unit<L: Lanes, F: Format, const BY: usize>(
    lanes: L,
    unit: &[u8],
    group: F::Group<L>,
    out: &mut [Line],
) {
    for pair in 0..UNIT / 2 {
        let bytes = &unit[pair * F::BITS * 4..][..F::BITS * 4];
        let [first, second] = F::decode_pair(lanes, bytes, group);
        lanes.store(first, &mut out[pair * 2 * BY].0);
        lanes.store(second, &mut out[(pair * 2 + 1) * BY].0);
    }
}

/// [`Weights::decode_row`].
pub(crate) fn decode_row(weights: &Weights<'_>, row: usize, out: &mut [f32]) {
    struct Row<'a>(&'a Weights<'a>, usize, &'a mut [Line]);
    impl Job for Row<'_> {
        type Out = ();

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) {
            let Row(weights, row, out) = self;
            with_format!(weights, format => decode::<L, _, 1>(lanes, &format, weights, (row, 0), out));
        }
    }
    assert_eq!(out.len(), weights.cols(), "elements of a row");
    let mut lines = vec![Line::default(); out.len().div_ceil(LANES)];
    Isa::detect().run(Row(weights, row, &mut lines));
    for (out, line) in out.chunks_mut(LANES).zip(&lines) {
        out.copy_from_slice(&line.0[..out.len()]);
    }
}

const _: () = assert!(PANEL_COLS.is_multiple_of(LANES) && PANEL_ROWS.is_multiple_of(R));
