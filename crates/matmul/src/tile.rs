//! A few rows of weights times a few rows of activations.

use std::ops::Range;

use crate::format::{Format, UNIT};
use crate::lanes::{LANES, Lanes};
use crate::packed::Line;
use crate::weights::Weights;

/// How far ahead weights are asked for in long rows, in bytes.
const AHEAD: usize = 2048;

/// Bytes of a row from which it is long.
const LONG: usize = 4096;

/// `R` neighbouring rows of weights, as bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strip<'a, const R: usize> {
    rows: [&'a [u8]; R],
    lines: [usize; R],
    cols: usize,
}

impl<'a, const R: usize> Strip<'a, R> {
    #[inline(always)]
    pub(crate) fn new<F: Format>(format: &F, weights: &Weights<'a>, first: usize) -> Self {
        Self {
            rows: std::array::from_fn(|r| weights.row(first + r)),
            lines: std::array::from_fn(|r| format.line(first + r)),
            cols: weights.cols(),
        }
    }

    /// The chains of all products with a group of `M` rows of activations.
    #[inline(always)]
    pub(crate) fn times<L: Lanes, F: Format, const M: usize>(
        &self,
        lanes: L,
        format: &F,
        x: &[Line],
    ) -> [[L::V; R]; M] {
        // Plain loops over arrays, not closures: a closure that is not inlined has no vector instructions.
        let mut chains = [[lanes.splat(0.0); R]; M];
        let steps = self.cols / LANES;
        let (x, _) = x.as_chunks::<M>();
        let x = &x[..self.cols.div_ceil(LANES)];
        let units = Units {
            rows: self.rows.map(|row| &F::units(row)[..steps / UNIT]),
            x: &x.as_chunks().0[..steps / UNIT],
            ahead: self.ahead(),
        };
        let by = format.group_cols() / LANES;
        let (mut place, mut start) = (0, 0);
        let mut group = [format.group(lanes, self.lines[0]); R];
        while start < steps {
            for (group, line) in group.iter_mut().zip(&self.lines) {
                *group = format.group(lanes, line + place);
            }
            let end = steps.min(start.saturating_add(by));
            if start.is_multiple_of(UNIT) {
                units.add::<L, F>(lanes, start / UNIT..end / UNIT, &group, &mut chains);
                start = end / UNIT * UNIT;
            }
            for (step, x) in x.iter().enumerate().take(end).skip(start) {
                self.vector::<L, F, M>(lanes, step, x, &group, &mut chains);
            }
            start = end;
            place += 1;
        }
        if !self.cols.is_multiple_of(LANES) {
            // The last, partial vector may begin a group.
            let rest = self.rows.map(|row| &row[steps * F::BITS * 2..]);
            let mut padded = [[0; 64]; R];
            for r in 0..R {
                padded[r][..rest[r].len()].copy_from_slice(rest[r]);
                group[r] = format.group(lanes, self.lines[r] + steps / by);
            }
            let last = Strip {
                rows: padded.each_ref().map(<[u8; 64]>::as_slice),
                ..*self
            };
            last.vector::<L, F, M>(lanes, 0, &x[steps], &group, &mut chains);
        }
        chains
    }

    /// The terms of one vector.
    #[inline(always)]
    fn vector<L: Lanes, F: Format, const M: usize>(
        &self,
        lanes: L,
        step: usize,
        x: &[Line; M],
        group: &[F::Group<L>; R],
        chains: &mut [[L::V; R]; M],
    ) {
        let mut w = [lanes.splat(0.0); R];
        for r in 0..R {
            let bytes = &self.rows[r][step * F::BITS * 2..][..F::BITS * 2];
            w[r] = F::decode(lanes, bytes, group[r]);
        }
        for m in 0..M {
            let x = lanes.load(&x[m].0);
            for r in 0..R {
                chains[m][r] = lanes.fma(w[r], x, chains[m][r]);
            }
        }
    }

    /// How far ahead weights are asked for: the next strip if its rows are short.
    ///
    /// A strip jumps from row to row of a page of memory, which the processor's own prefetcher does not follow.
    #[inline(always)]
    fn ahead(&self) -> usize {
        match self.rows[0].len() {
            short @ ..LONG => R * short,
            _ => AHEAD,
        }
    }
}

/// The whole units of a strip and of a group of activations, equally many.
struct Units<'a, U, const R: usize, const M: usize> {
    rows: [&'a [U]; R],
    x: &'a [[[Line; M]; UNIT]],
    ahead: usize,
}

impl<U: AsRef<[u8]>, const R: usize, const M: usize> Units<'_, U, R, M> {
    /// Adds the terms of the units `which`, which lie in one group.
    #[inline(always)]
    fn add<L: Lanes, F: Format<Unit = U>>(
        &self,
        lanes: L,
        which: Range<usize>,
        group: &[F::Group<L>; R],
        chains: &mut [[L::V; R]; M],
    ) {
        let rows = self.rows.map(|row| &row[which.clone()]);
        for (u, x) in self.x[which].iter().enumerate() {
            for r in 0..R {
                let unit = rows[r][u].as_ref();
                for line in 0..unit.len().div_ceil(64) {
                    let at = unit.as_ptr().wrapping_add(self.ahead + line * 64);
                    lanes.prefetch(at);
                }
                for pair in 0..UNIT / 2 {
                    let bytes = &unit[pair * F::BITS * 4..][..F::BITS * 4];
                    let [first, second] = F::decode_pair(lanes, bytes, group[r]);
                    for m in 0..M {
                        let (one, two) = (&x[pair * 2][m].0, &x[pair * 2 + 1][m].0);
                        let chain = lanes.fma(first, lanes.load(one), chains[m][r]);
                        chains[m][r] = lanes.fma(second, lanes.load(two), chain);
                    }
                }
            }
        }
    }
}

/// The sums of chains.
#[inline(always)]
pub(crate) fn sums<L: Lanes, const R: usize, const M: usize>(
    lanes: L,
    chains: &[[L::V; R]; M],
) -> [[f32; R]; M] {
    let mut sums = [[0.0; R]; M];
    let (chains, rest) = chains.as_flattened().as_chunks();
    let (four, ones) = sums.as_flattened_mut().as_chunks_mut();
    for (sums, chains) in four.iter_mut().zip(chains) {
        *sums = lanes.sum4(*chains);
    }
    for (sum, chain) in ones.iter_mut().zip(rest) {
        *sum = lanes.sum(*chain);
    }
    sums
}
