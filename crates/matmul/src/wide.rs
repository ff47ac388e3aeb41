//! Many rows of activations: a panel of weights is decoded to f32 once and multiplied from the cache.

use std::cell::RefCell;

use crate::format::{Format, with_format};
use crate::lanes::{Isa, Job, LANES, Lanes};
use crate::product::Target;
use crate::tile::vector;
use crate::weights::Weights;

/// Rows of weights in a panel.
const PANEL_ROWS: usize = 32;
/// Columns of a panel: a panel is 128 KiB, and six rows of activations of that width fit the first-level cache.
const PANEL_COLS: usize = 1024;
/// Rows of weights and of activations of a tile: 24 chains in 32 registers.
const R: usize = 4;
const M: usize = 6;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { panel: Vec::new(), chains: Vec::new() }) };
}

/// Buffers of one thread.
struct Scratch {
    /// Decoded weights, `[PANEL_ROWS, PANEL_COLS]`.
    panel: Vec<f32>,
    /// Chains of the panel's rows, a vector for each row of activations and weights: `[rows of x, PANEL_ROWS, LANES]`.
    chains: Vec<f32>,
}

/// The products of `target`'s rows of weights with all rows of activations.
#[inline(always)]
pub(crate) fn product<L: Lanes, F: Format>(lanes: L, format: &F, target: &mut Target<'_, '_>) {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.panel.resize(PANEL_ROWS * PANEL_COLS, 0.0);
        scratch
            .chains
            .resize(target.x.len() * PANEL_ROWS * LANES, 0.0);
        let rows = target.rows.clone();
        for first in rows.clone().step_by(PANEL_ROWS) {
            let count = PANEL_ROWS.min(rows.end - first);
            panel_product(lanes, format, target, first, count, scratch);
        }
    });
}

#[inline(always)]
fn panel_product<L: Lanes, F: Format>(
    lanes: L,
    format: &F,
    target: &mut Target<'_, '_>,
    first: usize,
    count: usize,
    scratch: &mut Scratch,
) {
    let weights = target.weights;
    scratch.chains.fill(0.0);
    for from in (0..weights.cols()).step_by(PANEL_COLS) {
        let width = PANEL_COLS.min((weights.cols() - from).next_multiple_of(LANES));
        for row in 0..count {
            let to = &mut scratch.panel[row * PANEL_COLS..][..width];
            decode(lanes, format, weights, first + row, from, to);
        }
        let x: Vec<&[f32]> = target.x.iter().map(|x| &x[from..from + width]).collect();
        for (x, chains) in x
            .chunks(M)
            .zip(scratch.chains.chunks_mut(M * PANEL_ROWS * LANES))
        {
            match *x {
                [a, b, c, d, e, f] => {
                    group(lanes, [a, b, c, d, e, f], &scratch.panel, count, chains)
                }
                _ => {
                    for (x, chains) in x.iter().zip(chains.chunks_mut(PANEL_ROWS * LANES)) {
                        group(lanes, [x], &scratch.panel, count, chains);
                    }
                }
            }
        }
    }
    for (m, chains) in scratch.chains.chunks(PANEL_ROWS * LANES).enumerate() {
        for row in 0..count {
            let sum = lanes.sum(vector(lanes, &chains[row * LANES..]));
            target.put(m, first + row, sum);
        }
    }
}

/// All rows of a panel with `N` rows of activations.
#[inline(always)]
fn group<L: Lanes, const N: usize>(
    lanes: L,
    x: [&[f32]; N],
    panel: &[f32],
    count: usize,
    chains: &mut [f32],
) {
    let whole = count / R * R;
    for row in (0..whole).step_by(R) {
        tile::<L, R, N>(
            lanes,
            x,
            &panel[row * PANEL_COLS..],
            &mut chains[row * LANES..],
        );
    }
    for row in whole..count {
        tile::<L, 1, N>(
            lanes,
            x,
            &panel[row * PANEL_COLS..],
            &mut chains[row * LANES..],
        );
    }
}

#[inline(always)]
fn tile<L: Lanes, const T: usize, const N: usize>(
    lanes: L,
    x: [&[f32]; N],
    panel: &[f32],
    chains: &mut [f32],
) {
    let place = |m: usize, r: usize| (m * PANEL_ROWS + r) * LANES;
    let mut sums = [[lanes.splat(0.0); T]; N];
    for m in 0..N {
        for r in 0..T {
            sums[m][r] = vector(lanes, &chains[place(m, r)..]);
        }
    }
    let width = x[0].len();
    let x = x.map(|x| x[..width].as_chunks::<LANES>().0);
    let w: [&[[f32; LANES]]; T] =
        std::array::from_fn(|r| panel[r * PANEL_COLS..][..width].as_chunks::<LANES>().0);
    for step in 0..width / LANES {
        let mut v = [lanes.splat(0.0); T];
        for r in 0..T {
            v[r] = lanes.load(&w[r][step]);
        }
        for m in 0..N {
            let x = lanes.load(&x[m][step]);
            for r in 0..T {
                sums[m][r] = lanes.fma(v[r], x, sums[m][r]);
            }
        }
    }
    for m in 0..N {
        for r in 0..T {
            let to = chains[place(m, r)..]
                .first_chunk_mut()
                .expect("a whole vector");
            lanes.store(sums[m][r], to);
        }
    }
}

/// Columns `from..from + out.len()` of a row; zeros beyond the last one. `from` is a multiple of [`PANEL_COLS`].
#[inline(always)]
fn decode<L: Lanes, F: Format>(
    lanes: L,
    format: &F,
    weights: &Weights<'_>,
    row: usize,
    from: usize,
    out: &mut [f32],
) {
    let (line, by) = (format.line(row), format.group_cols());
    let bytes = &weights.row(row)[from * F::BITS / 8..];
    let mut group = format.group(lanes, line + from / by);
    let mut next = (from / by).saturating_add(1).saturating_mul(by);
    for (step, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let col = from + step * LANES;
        if col >= next {
            group = format.group(lanes, line + col / by);
            next = next.saturating_add(by);
        }
        let part = &bytes[step * F::BITS * 2..];
        if let Some(part) = part.get(..F::BITS * 2) {
            lanes.store(F::decode(lanes, part, group), out);
        } else {
            let mut padded = [0; 64];
            padded[..part.len()].copy_from_slice(part);
            lanes.store(F::decode(lanes, &padded[..F::BITS * 2], group), out);
            out[weights.cols() - col..].fill(0.0);
        }
    }
}

/// [`Weights::decode_row`].
pub(crate) fn decode_row(weights: &Weights<'_>, row: usize, out: &mut [f32]) {
    struct Row<'a>(&'a Weights<'a>, usize, &'a mut [f32]);
    impl Job for Row<'_> {
        type Out = ();

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) {
            let Row(weights, row, out) = self;
            with_format!(weights, format => decode(lanes, &format, weights, row, 0, out));
        }
    }
    assert_eq!(out.len(), weights.cols(), "elements of a row");
    if out.len().is_multiple_of(LANES) {
        return Isa::detect().run(Row(weights, row, out));
    }
    let mut padded = vec![0.0; out.len().next_multiple_of(LANES)];
    Isa::detect().run(Row(weights, row, &mut padded));
    out.copy_from_slice(&padded[..out.len()]);
}

const _: () = assert!(PANEL_COLS.is_multiple_of(LANES) && PANEL_ROWS.is_multiple_of(R));
