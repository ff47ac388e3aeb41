//! Products with a matrix that lies in pages: keys and values of attention.

use crate::format::{Bf16, F32, Format};
use crate::lanes::{Isa, Job, LANES, Lanes};
use crate::packed::{Line, Packed};
use crate::tile::{Strip, sums};
use crate::weights::{Coding, Weights};

/// A matrix `[rows, width]` whose rows lie in pages of equal height.
#[derive(Clone, Debug)]
pub struct Paged<'a> {
    pages: Vec<Weights<'a>>,
    page_rows: usize,
    width: usize,
    narrow: bool,
}

impl<'a> Paged<'a> {
    /// A view of pages `[page_rows, width]` of BF16, or of F32.
    ///
    /// # Panics
    /// If the coding is another, or a page has other bytes than the shape gives.
    pub fn new(
        pages: impl IntoIterator<Item = &'a [u8]>,
        page_rows: usize,
        width: usize,
        coding: Coding<'a>,
    ) -> Self {
        let narrow = match coding {
            Coding::Bf16 => true,
            Coding::F32 => false,
            other => panic!("pages of {other:?}"),
        };
        let pages = pages
            .into_iter()
            .map(|bytes| Weights::new(page_rows, width, bytes, coding));
        Self {
            pages: pages.collect(),
            page_rows,
            width,
            narrow,
        }
    }

    /// `y = x Pᵀ` with the first rows of `P`: `y[m][n]` for `n < rows`, summed as [`crate::reference`] says.
    ///
    /// **Shapes** `x` rows of `width`, a multiple of 16; `y` as many rows of at least `rows`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn times_transposed(&self, rows: usize, x: &[&[f32]], y: &mut [&mut [f32]]) {
        assert!(self.width.is_multiple_of(LANES), "width {}", self.width);
        assert!(
            rows <= self.pages.len() * self.page_rows,
            "{rows} rows in pages"
        );
        assert_eq!(x.len(), y.len(), "rows of the result");
        Isa::detect().run(Scores {
            paged: self,
            rows,
            x,
            y,
        });
    }

    /// `y = x P` with the first rows of `P`; every element takes its terms in order of the rows, each added with one rounding.
    ///
    /// **Shapes** `x` rows of at least `rows`; `y` as many rows of `width`, a multiple of 16.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn times(&self, rows: usize, x: &[&[f32]], y: &mut [&mut [f32]]) {
        assert!(self.width.is_multiple_of(LANES), "width {}", self.width);
        assert!(
            rows <= self.pages.len() * self.page_rows,
            "{rows} rows in pages"
        );
        assert_eq!(x.len(), y.len(), "rows of the result");
        Isa::detect().run(Mix {
            paged: self,
            rows,
            x,
            y,
        });
    }
}

struct Scores<'t, 'a, 'y> {
    paged: &'t Paged<'a>,
    rows: usize,
    x: &'t [&'t [f32]],
    y: &'t mut [&'y mut [f32]],
}

impl Job for Scores<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        if self.paged.narrow {
            self.all(lanes, &Bf16);
        } else {
            self.all(lanes, &F32);
        }
    }
}

impl Scores<'_, '_, '_> {
    #[inline(always)]
    fn all<L: Lanes, F: Format>(self, lanes: L, format: &F) {
        let x = self.x.iter().map(|x| &x[..self.paged.width]);
        let x = Packed::new(x, &[1, 2, 4]);
        for group in x.groups() {
            let (y, x) = (&mut self.y[group.first..][..group.rows], x.lines(group));
            match group.size {
                4 => Self::some::<L, F, 4>(self.paged, self.rows, lanes, format, x, y),
                2 => Self::some::<L, F, 2>(self.paged, self.rows, lanes, format, x, y),
                _ => Self::some::<L, F, 1>(self.paged, self.rows, lanes, format, x, y),
            }
        }
    }

    #[inline(always)]
    fn some<L: Lanes, F: Format, const M: usize>(
        paged: &Paged<'_>,
        rows: usize,
        lanes: L,
        format: &F,
        x: &[Line],
        y: &mut [&mut [f32]],
    ) {
        let starts = (0..rows).step_by(paged.page_rows);
        for (start, page) in starts.zip(&paged.pages) {
            let count = paged.page_rows.min(rows - start);
            let whole = count / 4 * 4;
            for row in (0..whole).step_by(4) {
                let strip: Strip<'_, 4> = Strip::new(format, page, row);
                put::<L, _, M>(lanes, strip.times(lanes, format, x), y, start + row);
            }
            for row in whole..count {
                let strip: Strip<'_, 1> = Strip::new(format, page, row);
                put::<L, _, M>(lanes, strip.times(lanes, format, x), y, start + row);
            }
        }
    }
}

#[inline(always)]
fn put<L: Lanes, const R: usize, const M: usize>(
    lanes: L,
    chains: [[L::V; R]; M],
    y: &mut [&mut [f32]],
    first: usize,
) {
    let sums = sums(lanes, &chains);
    for (sums, y) in sums.iter().zip(y) {
        y[first..first + R].copy_from_slice(sums);
    }
}

struct Mix<'t, 'a, 'y> {
    paged: &'t Paged<'a>,
    rows: usize,
    x: &'t [&'t [f32]],
    y: &'t mut [&'y mut [f32]],
}

impl Job for Mix<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        if self.paged.narrow {
            self.all::<L, Bf16>(lanes);
        } else {
            self.all::<L, F32>(lanes);
        }
    }
}

impl Mix<'_, '_, '_> {
    #[inline(always)]
    fn all<L: Lanes, F: Format<Group<L> = ()>>(self, lanes: L) {
        for (x, y) in self.x.chunks(4).zip(self.y.chunks_mut(4)) {
            if let &[a, b, c, d] = x {
                Self::some::<L, F, 4>(self.paged, self.rows, lanes, [a, b, c, d], y);
            } else {
                for (x, y) in x.iter().zip(y) {
                    Self::some::<L, F, 1>(
                        self.paged,
                        self.rows,
                        lanes,
                        [*x],
                        std::slice::from_mut(y),
                    );
                }
            }
        }
    }

    #[inline(always)]
    fn some<L: Lanes, F: Format<Group<L> = ()>, const M: usize>(
        paged: &Paged<'_>,
        rows: usize,
        lanes: L,
        x: [&[f32]; M],
        y: &mut [&mut [f32]],
    ) {
        let (vectors, mut at) = (paged.width / LANES, 0);
        while at < vectors {
            at += match vectors - at {
                8.. if M == 1 => Self::columns::<L, F, M, 8>(paged, rows, lanes, x, y, at),
                4.. => Self::columns::<L, F, M, 4>(paged, rows, lanes, x, y, at),
                _ => Self::columns::<L, F, M, 1>(paged, rows, lanes, x, y, at),
            };
        }
    }

    /// `V` vectors of columns from the `at`-th on.
    #[inline(always)]
    fn columns<L: Lanes, F: Format<Group<L> = ()>, const M: usize, const V: usize>(
        paged: &Paged<'_>,
        rows: usize,
        lanes: L,
        x: [&[f32]; M],
        y: &mut [&mut [f32]],
        at: usize,
    ) -> usize {
        let bytes = F::BITS * 2;
        let mut sums = [[lanes.splat(0.0); V]; M];
        let x = x.map(|x| &x[..rows]);
        let starts = (0..rows).step_by(paged.page_rows);
        for (start, page) in starts.zip(&paged.pages) {
            for row in 0..paged.page_rows.min(rows - start) {
                let line = &page.row(row)[at * bytes..][..V * bytes];
                let mut w = [lanes.splat(0.0); V];
                for v in 0..V {
                    w[v] = F::decode(lanes, &line[v * bytes..][..bytes], ());
                }
                for m in 0..M {
                    let factor = lanes.splat(x[m][start + row]);
                    for v in 0..V {
                        sums[m][v] = lanes.fma(factor, w[v], sums[m][v]);
                    }
                }
            }
        }
        for (y, sums) in y.iter_mut().zip(sums) {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = &mut y[(at + v) * LANES..];
                lanes.store(sum, to.first_chunk_mut().expect("a whole vector"));
            }
        }
        V
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn number(i: usize) -> f32 {
        ((i * 2_654_435_761) >> 7 & 1023) as f32 / 512.0 - 1.0
    }

    /// Both products against the definition, with 3 pages of 8 rows of which 21 count.
    fn check(width: usize, m: usize, narrow: bool) {
        let (page_rows, rows) = (8, 21);
        let all: Vec<f32> = (0..24 * width).map(number).collect();
        let encode = |x: &f32| match narrow {
            true => half::bf16::from_f32(*x).to_le_bytes().to_vec(),
            false => x.to_le_bytes().to_vec(),
        };
        let bytes: Vec<u8> = all.iter().flat_map(encode).collect();
        let coding = if narrow { Coding::Bf16 } else { Coding::F32 };
        let page = bytes.len() / 3;
        // The pages are given in another order than they lie in memory.
        let order = [1, 2, 0];
        let pages = order.map(|p| &bytes[p * page..][..page]);
        let paged = Paged::new(pages, page_rows, width, coding);
        let joined: Vec<u8> = pages.concat();
        let flat = Weights::new(24, width, &joined, coding);

        let x: Vec<f32> = (0..m * width).map(|i| number(i + 99)).collect();
        let x: Vec<&[f32]> = x.chunks(width).collect();
        let mut y = vec![0.0; m * 24];
        paged.times_transposed(rows, &x, &mut y.chunks_mut(24).collect::<Vec<_>>());
        let expected = reference::product(&flat, &x.concat());
        for (y, expected) in y.chunks(24).zip(expected.chunks(24)) {
            assert_eq!(y[..rows], expected[..rows]);
        }

        let p: Vec<f32> = (0..m * rows).map(|i| number(i + 7)).collect();
        let p: Vec<&[f32]> = p.chunks(rows).collect();
        let mut y = vec![f32::NAN; m * width];
        paged.times(rows, &p, &mut y.chunks_mut(width).collect::<Vec<_>>());
        let mut row = vec![0.0; width];
        for (y, p) in y.chunks(width).zip(p) {
            let mut expected = vec![0.0_f32; width];
            for (k, p) in p.iter().enumerate() {
                flat.decode_row(k, &mut row);
                expected
                    .iter_mut()
                    .zip(&row)
                    .for_each(|(sum, v)| *sum = p.mul_add(*v, *sum));
            }
            assert_eq!(y, expected);
        }
    }

    #[test]
    fn pages_give_what_one_matrix_gives() {
        for width in [16, 64, 80, 128, 208] {
            for m in [1, 3, 4, 9] {
                check(width, m, false);
                check(width, m, true);
            }
        }
    }
}
