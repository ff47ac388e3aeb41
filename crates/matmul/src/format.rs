//! How sixteen elements of a row come into a vector, format by format.

use crate::lanes::{LANES, Lanes};
use crate::weights::Scales;

/// Vectors of a row that are taken together.
pub(crate) const UNIT: usize = 4;

/// A format of weights.
pub(crate) trait Format: Copy + Sync {
    /// Bits of an element.
    const BITS: usize;
    /// What decodes the elements of one group of a row.
    type Group<L: Lanes>: Copy;

    /// The bytes of [`UNIT`] vectors.
    type Unit: AsRef<[u8]>;

    /// The whole units of a row.
    fn units(row: &[u8]) -> &[Self::Unit];

    /// Columns of a group, as wide as the row at least if there is only one.
    fn group_cols(&self) -> usize;

    /// The place of a row's first scale.
    fn line(&self, row: usize) -> usize;

    /// What decodes the elements under the scale at `place`.
    fn group<L: Lanes>(&self, lanes: L, place: usize) -> Self::Group<L>;

    /// Sixteen elements from `2 * BITS` bytes.
    fn decode<L: Lanes>(lanes: L, bytes: &[u8], group: Self::Group<L>) -> L::V;

    /// [`Format::decode`] of thirty-two elements from `4 * BITS` bytes.
    #[inline(always)]
    fn decode_pair<L: Lanes>(lanes: L, bytes: &[u8], group: Self::Group<L>) -> [L::V; 2] {
        let (first, second) = bytes.split_at(Self::BITS * 2);
        [
            Self::decode(lanes, first, group),
            Self::decode(lanes, second, group),
        ]
    }
}

/// [`Format::Unit`] of a format of so many bits.
macro_rules! units {
    ($bits:literal) => {
        const BITS: usize = $bits;
        type Unit = [u8; UNIT * 2 * $bits];

        #[inline(always)]
        fn units(row: &[u8]) -> &[Self::Unit] {
            row.as_chunks().0
        }
    };
}

#[inline(always)]
fn exactly<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().expect("bytes of a vector")
}

macro_rules! unscaled {
    ($name:ident, $bits:literal, $decode:ident) => {
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name;

        impl Format for $name {
            units!($bits);
            type Group<L: Lanes> = ();

            #[inline(always)]
            fn group_cols(&self) -> usize {
                usize::MAX
            }

            #[inline(always)]
            fn line(&self, _: usize) -> usize {
                0
            }

            #[inline(always)]
            fn group<L: Lanes>(&self, _: L, _: usize) {}

            #[inline(always)]
            fn decode<L: Lanes>(lanes: L, bytes: &[u8], (): ()) -> L::V {
                lanes.$decode(exactly(bytes))
            }
        }
    };
}

unscaled!(F32, 32, f32);
unscaled!(Bf16, 16, bf16);
unscaled!(F16, 16, f16);

macro_rules! scaled {
    ($name:ident, $decode:ident, $factor:literal $(, $pair:ident)?) => {
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name<'a>(pub(crate) Grid<'a>);

        impl Format for $name<'_> {
            units!(8);
            type Group<L: Lanes> = L::V;

            #[inline(always)]
            fn group_cols(&self) -> usize {
                self.0.cols
            }

            #[inline(always)]
            fn line(&self, row: usize) -> usize {
                self.0.line(row)
            }

            #[inline(always)]
            fn group<L: Lanes>(&self, lanes: L, place: usize) -> L::V {
                lanes.splat(self.0.values[place] * $factor)
            }

            #[inline(always)]
            fn decode<L: Lanes>(lanes: L, bytes: &[u8], scale: L::V) -> L::V {
                lanes.mul(lanes.$decode(exactly(bytes)), scale)
            }

            $(
                #[inline(always)]
                fn decode_pair<L: Lanes>(lanes: L, bytes: &[u8], scale: L::V) -> [L::V; 2] {
                    let [first, second] = lanes.$pair(exactly(bytes));
                    [lanes.mul(first, scale), lanes.mul(second, scale)]
                }
            )?
        }
    };
}

// The vectors of E4M3 are 2⁻⁸ of their values; both factors are powers of two, so the product is rounded once.
scaled!(E4m3, e4m3, 256.0, e4m3_pair);
scaled!(E5m2, e5m2, 1.0);
scaled!(Int8, i8, 1.0);

/// Four-bit codes: a group's sixteen possible values are one vector, in which the codes look themselves up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FourBit<'a> {
    pub(crate) levels: &'a [f32; LANES],
    pub(crate) scales: Grid<'a>,
    pub(crate) zeros: Option<&'a [u8]>,
    pub(crate) middle: f32,
}

impl Format for FourBit<'_> {
    units!(4);
    type Group<L: Lanes> = L::V;

    #[inline(always)]
    fn group_cols(&self) -> usize {
        self.scales.cols
    }

    #[inline(always)]
    fn line(&self, row: usize) -> usize {
        self.scales.line(row)
    }

    #[inline(always)]
    fn group<L: Lanes>(&self, lanes: L, place: usize) -> L::V {
        let zero = self
            .zeros
            .map_or(self.middle, |zeros| f32::from(zeros[place]));
        let levels = lanes.load(self.levels);
        let levels = lanes.fma(levels, lanes.splat(1.0), lanes.splat(-zero));
        lanes.mul(levels, lanes.splat(self.scales.values[place]))
    }

    #[inline(always)]
    fn decode<L: Lanes>(lanes: L, bytes: &[u8], table: L::V) -> L::V {
        lanes.nibbles(exactly(bytes), table)
    }
}

/// The scales of a weight, and where those of a row are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    per_row: usize,
}

impl<'a> Grid<'a> {
    pub(crate) fn new(scales: &Scales<'a>, cols: usize) -> Self {
        Self {
            values: scales.values,
            rows: scales.block_rows,
            cols: scales.block_cols.next_multiple_of(LANES),
            per_row: cols.div_ceil(scales.block_cols),
        }
    }

    #[inline(always)]
    fn line(&self, row: usize) -> usize {
        row / self.rows * self.per_row
    }
}

/// Calls `$then` with the format of `$weights` as `$format`.
macro_rules! with_format {
    ($weights:expr, $format:ident => $then:expr) => {{
        use $crate::format::{Bf16, E4m3, E5m2, F16, F32, FourBit, Grid, Int8};
        let cols = $weights.cols();
        match $weights.coding() {
            $crate::Coding::F32 => {
                let $format = F32;
                $then
            }
            $crate::Coding::Bf16 => {
                let $format = Bf16;
                $then
            }
            $crate::Coding::F16 => {
                let $format = F16;
                $then
            }
            $crate::Coding::E4m3(scales) => {
                let $format = E4m3(Grid::new(scales, cols));
                $then
            }
            $crate::Coding::E5m2(scales) => {
                let $format = E5m2(Grid::new(scales, cols));
                $then
            }
            $crate::Coding::Int8(scales) => {
                let $format = Int8(Grid::new(scales, cols));
                $then
            }
            $crate::Coding::FourBit {
                levels,
                scales,
                zeros,
                middle,
            } => {
                let $format = FourBit {
                    levels,
                    scales: Grid::new(scales, cols),
                    zeros: *zeros,
                    middle: *middle,
                };
                $then
            }
        }
    }};
}
pub(crate) use with_format;
