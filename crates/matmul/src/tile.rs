//! A few rows of weights times a few rows of activations.

use crate::format::Format;
use crate::lanes::{LANES, Lanes};
use crate::weights::Weights;

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

    /// The chains of all products with `M` rows of activations, each padded with zeros to whole vectors.
    #[inline(always)]
    pub(crate) fn times<L: Lanes, F: Format, const M: usize>(
        &self,
        lanes: L,
        format: &F,
        x: [&[f32]; M],
    ) -> [[L::V; R]; M] {
        // Plain loops over arrays, not closures: a closure that is not inlined has no vector instructions.
        let mut chains = [[lanes.splat(0.0); R]; M];
        let steps = self.cols / LANES;
        let x = x.map(|x| &x[..self.cols.div_ceil(LANES) * LANES]);
        let rows = self.rows.map(|row| &row[..steps * F::BITS * 2]);
        let by = format.group_cols() / LANES;
        let mut w = [lanes.splat(0.0); R];
        let (mut place, mut start) = (0, 0);
        let mut group = [format.group(lanes, self.lines[0]); R];
        while start < steps {
            for (group, line) in group.iter_mut().zip(&self.lines) {
                *group = format.group(lanes, line + place);
            }
            let end = steps.min(start.saturating_add(by));
            for step in start..end {
                for r in 0..R {
                    let bytes = &rows[r][step * F::BITS * 2..][..F::BITS * 2];
                    w[r] = F::decode(lanes, bytes, group[r]);
                }
                for m in 0..M {
                    let x = vector(lanes, &x[m][step * LANES..]);
                    for r in 0..R {
                        chains[m][r] = lanes.fma(w[r], x, chains[m][r]);
                    }
                }
            }
            start = end;
            place += 1;
        }
        if !self.cols.is_multiple_of(LANES) {
            // The last, partial vector may begin a group.
            place = steps / by;
            for r in 0..R {
                let mut bytes = [0; 64];
                let rest = &self.rows[r][steps * F::BITS * 2..];
                bytes[..rest.len()].copy_from_slice(rest);
                group[r] = format.group(lanes, self.lines[r] + place);
                w[r] = F::decode(lanes, &bytes[..F::BITS * 2], group[r]);
            }
            for m in 0..M {
                let x = vector(lanes, &x[m][steps * LANES..]);
                for r in 0..R {
                    chains[m][r] = lanes.fma(w[r], x, chains[m][r]);
                }
            }
        }
        chains
    }
}

#[inline(always)]
pub(crate) fn vector<L: Lanes>(lanes: L, from: &[f32]) -> L::V {
    lanes.load(from.first_chunk().expect("a whole vector"))
}
