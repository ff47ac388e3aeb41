//! How each kernel is started: grid, tensor maps, and the order of its parameters.
//!
//! A [`Call`] is data. The CUDA backend puts addresses into it; the tests put operands into it and run the kernel's text on
//! the CPU, so that grid, boxes, strides and the order of parameters are tested without a GPU.

use xgraft_cuda_jit::{Dim, Element, Launch, Swizzle, TensorShape};

use crate::{
    BLOCK, Error, Result, Shape,
    kernel::{Form, Kernel, Tile},
    schedule::Work,
};

/// What a pointer or a tensor map is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// X: codes `[m, k]`, or BF16 where a kernel takes it unquantized.
    X,
    /// F32 `[k_blocks, scale_stride]`.
    XScales,
    /// Codes `[n, k]`.
    W,
    /// F32 `[n_blocks, k_blocks]`.
    WScales,
    /// BF16 `[m, rank]`: X·Aᵀ, scaled.
    T,
    /// BF16 `[n, rank]`: the adapter's B.
    B,
    /// `[m, n]`, BF16 or F32.
    Y,
    /// F32 for sums that several blocks have a part of: [`Call::parts`] bytes, of any content.
    Parts,
    /// u32 for the arrivals of those blocks: [`Call::counters`] of them, zero before and after.
    Counters,
    /// The codes that quantizing writes, `[m, k]`.
    Codes,
    /// u32 `[tiles, 3]`: first token, number of tokens, adapter.
    Tokens,
    /// Addresses of every adapter's A, BF16 `[rank, k]`.
    AOf,
    /// Addresses of every adapter's B, BF16 `[n, rank]`.
    BOf,
    /// u32 rank of every adapter.
    RankOf,
    /// F32 factor of every adapter.
    FactorOf,
}

impl Operand {
    /// Every one.
    pub const ALL: [Self; 15] = [
        Self::X,
        Self::XScales,
        Self::W,
        Self::WScales,
        Self::T,
        Self::B,
        Self::Y,
        Self::Parts,
        Self::Counters,
        Self::Codes,
        Self::Tokens,
        Self::AOf,
        Self::BOf,
        Self::RankOf,
        Self::FactorOf,
    ];

    /// Its name in errors and in what other languages ask for.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::XScales => "x_scales",
            Self::W => "w",
            Self::WScales => "w_scales",
            Self::T => "t",
            Self::B => "b",
            Self::Y => "y",
            Self::Parts => "parts",
            Self::Counters => "counters",
            Self::Codes => "codes",
            Self::Tokens => "tokens",
            Self::AOf => "a_of",
            Self::BOf => "b_of",
            Self::RankOf => "rank_of",
            Self::FactorOf => "factor_of",
        }
    }
}

/// A parameter of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// A tensor map of an operand.
    Map(Operand, TensorShape),
    /// The address of an operand.
    Pointer(Operand),
    /// A number.
    Number(u32),
}

/// The type of Y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Rounded to nearest even.
    Bf16,
    /// As it is summed.
    F32,
}

/// A kernel with its grid and parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which configuration.
    pub kernel: Kernel,
    /// Grid, block and shared memory.
    pub launch: Launch,
    /// In the order of the kernel.
    pub parameters: Vec<Parameter>,
    /// Bytes that [`Operand::Parts`] must have.
    pub parts: u64,
    /// Numbers that [`Operand::Counters`] must have.
    pub counters: u32,
}

/// The token tile's adapter where there is none.
pub const NO_ADAPTER: u32 = u32::MAX;
/// Tokens in a tile of the kernels for adapters.
pub const TOKENS: u32 = 16;
/// Bytes that a tile of quantizing writes of its part.
const QUANTIZE_PART: u64 = 4 * 4 * 256 * 4;

/// Rows of 128 bytes under the swizzle, so many at a time.
fn rows_of_128(element: Element, rows: u32, cols: u32, box_rows: u32) -> TensorShape {
    TensorShape {
        element,
        rows: rows.into(),
        cols: cols.into(),
        row_stride: cols.into(),
        box_rows,
        box_cols: 128 / element.bytes() as u32,
        swizzle: Swizzle::Bytes128,
    }
}

/// The scales of so many tokens in one block of k.
fn scales_of(shape: Shape, tokens: u32) -> TensorShape {
    TensorShape {
        element: Element::F32,
        rows: shape.k_blocks().into(),
        cols: shape.m.into(),
        row_stride: shape.scale_stride().into(),
        box_rows: 1,
        box_cols: tokens,
        swizzle: Swizzle::None,
    }
}

/// Of X, W and the scales of X, in boxes of so many tokens and rows of W.
fn maps(shape: Shape, tokens: u32, w_rows: u32) -> [Parameter; 3] {
    let codes = |rows, box_rows| rows_of_128(Element::U8, rows, shape.k, box_rows);
    [
        Parameter::Map(Operand::X, codes(shape.m, tokens)),
        Parameter::Map(Operand::W, codes(shape.n, w_rows)),
        Parameter::Map(Operand::XScales, scales_of(shape, tokens)),
    ]
}

fn launch(kernel: Kernel, grid: Dim) -> Launch {
    let resources = kernel.resources();
    Launch {
        grid,
        block: Dim::x(resources.threads),
        cluster: Dim::x(kernel.tile().map_or(1, |tile| tile.cluster)),
        shared: resources.shared,
        overlap: kernel.waits(),
    }
}

impl Output {
    /// Bytes of a number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }

    const fn flag(self) -> Parameter {
        Parameter::Number(matches!(self, Self::F32) as u32)
    }
}

impl Call {
    /// Of a kernel that computes each number in one block.
    fn whole(kernel: Kernel, grid: Dim, parameters: Vec<Parameter>) -> Self {
        Self {
            kernel,
            launch: launch(kernel, grid),
            parameters,
            parts: 0,
            counters: 0,
        }
    }

    /// Many tokens, on so many multiprocessors, in tiles that are whole or cut where whole ones would leave some idle. A rank of 0 stands
    /// for no adapter.
    ///
    /// # Panics
    /// If a tile without slots for an adapter is given a rank.
    pub fn prefill(
        tile: Tile,
        shape: Shape,
        rank: u32,
        output: Output,
        (band, cut): (u32, bool),
        multiprocessors: u32,
    ) -> Self {
        let workers = (multiprocessors / tile.cluster).max(1);
        let sides = (tile.rows_b * tile.cluster, tile.rows_a);
        let work = match cut {
            true => Work::cut(shape, rank, sides, band, workers),
            false => Work::whole(shape, rank, sides, band, workers),
        };
        // Each block of a cluster brings its share of the tokens.
        let (x_rows, w_rows) = (tile.rows_a / tile.cluster, tile.rows_b);
        let [x, w, x_scales] = maps(shape, x_rows, w_rows);
        let t = rows_of_128(Element::Bf16, shape.m, rank, x_rows);
        let b = rows_of_128(Element::Bf16, shape.n, rank, w_rows);
        let adapter = [Parameter::Map(Operand::T, t), Parameter::Map(Operand::B, b)];
        Self::ring(
            Kernel::Prefill(tile),
            (shape, rank, output),
            work,
            [x, w, x_scales],
            adapter,
        )
    }

    /// Few tokens, over so many blocks, or as many as there are slots, in tiles that are cut where whole ones would leave some idle.
    ///
    /// # Panics
    /// If a tile without slots for an adapter is given a rank.
    pub fn decode(tile: Tile, shape: Shape, rank: u32, output: Output, blocks: u32) -> Self {
        let (w_rows, tokens) = (tile.rows_a, tile.rows_b);
        // All tiles of the same rows of W follow each other.
        let work = Work::cut(shape, rank, (w_rows, tokens), u32::MAX, blocks);
        let [x, w, x_scales] = maps(shape, tokens, w_rows);
        let b = rows_of_128(Element::Bf16, shape.n, rank, w_rows);
        let t = rows_of_128(Element::Bf16, shape.m, rank, tokens);
        let adapter = [Parameter::Map(Operand::B, b), Parameter::Map(Operand::T, t)];
        Self::ring(
            Kernel::Decode(tile),
            (shape, rank, output),
            work,
            [w, x, x_scales],
            adapter,
        )
    }

    /// Of a kernel that turns a ring, with its operands in the order of wgmma's sides.
    fn ring(
        kernel: Kernel,
        (shape, rank, output): (Shape, u32, Output),
        work: Work,
        operands: [Parameter; 3],
        of_adapter: [Parameter; 2],
    ) -> Self {
        let Some(tile) = kernel.tile() else {
            unreachable!("prefill and decode have tiles")
        };
        let mut parameters = operands.to_vec();
        parameters.extend(adapter(tile, rank, of_adapter));
        let pointers = [
            Operand::WScales,
            Operand::Y,
            Operand::Parts,
            Operand::Counters,
        ];
        parameters.extend(pointers.map(Parameter::Pointer));
        parameters.extend([shape.m, shape.n, shape.k, shape.n].map(Parameter::Number));
        parameters.push(output.flag());
        parameters.extend([work.tiles.band, work.cut].map(Parameter::Number));
        let blocks = work.workers * tile.cluster;
        // Two parts of a block, and a counter for the tile that it begins and others end.
        let shared = if work.cut > 0 { blocks } else { 0 };
        let part = u64::from(tile.rows_a) * u64::from(tile.rows_b) * 4;
        Self {
            kernel,
            launch: launch(kernel, Dim::x(blocks)),
            parameters,
            parts: u64::from(shared) * 2 * part,
            counters: shared,
        }
    }

    /// Any shape by the readable kernel.
    pub fn plain(form: Form, shape: Shape, output: Output) -> Self {
        let kernel = Kernel::Plain(form);
        let grid = Dim(shape.n.div_ceil(64), shape.m.div_ceil(64), 1);
        let pointers = [
            Operand::X,
            Operand::XScales,
            Operand::W,
            Operand::WScales,
            Operand::Y,
        ];
        let mut parameters = pointers.map(Parameter::Pointer).to_vec();
        let numbers = [
            shape.m,
            shape.n,
            shape.k,
            shape.k,
            shape.scale_stride(),
            shape.n,
        ];
        parameters.extend(numbers.map(Parameter::Number));
        parameters.push(output.flag());
        Self::whole(kernel, grid, parameters)
    }

    /// Very few tokens in BF16, rows of X and W of whole 16 bytes.
    ///
    /// # Errors
    /// [`Error::Rows`] if k is no multiple of 16.
    pub fn w8a16(shape: Shape, output: Output) -> Result<Self> {
        if !shape.has_tma_rows() {
            return Err(Error::Rows { k: shape.k });
        }
        let kernel = Kernel::W8a16;
        let grid = Dim(shape.n.div_ceil(8), shape.m.div_ceil(4), 1);
        let pointers = [Operand::X, Operand::W, Operand::WScales, Operand::Y];
        let mut parameters = pointers.map(Parameter::Pointer).to_vec();
        parameters.extend([shape.m, shape.n, shape.k, shape.k, shape.n].map(Parameter::Number));
        parameters.push(output.flag());
        Ok(Self::whole(kernel, grid, parameters))
    }

    /// X in BF16 to codes, scales, and T with rows of `t_stride`; `tiles` entries of [`Operand::Tokens`], k in so many parts.
    ///
    /// Of `shape` only m and k count.
    pub fn quantize(form: Form, shape: Shape, tiles: u32, split: u32, t_stride: u32) -> Self {
        let kernel = Kernel::Quantize(form);
        let pointers = [
            Operand::X,
            Operand::Codes,
            Operand::XScales,
            Operand::Tokens,
            Operand::AOf,
            Operand::RankOf,
            Operand::FactorOf,
            Operand::T,
            Operand::Parts,
            Operand::Counters,
        ];
        let mut parameters = pointers.map(Parameter::Pointer).to_vec();
        let numbers = [shape.k, shape.k, shape.k, shape.scale_stride(), t_stride];
        parameters.extend(numbers.map(Parameter::Number));
        Self {
            kernel,
            launch: launch(kernel, Dim(tiles, split, 1)),
            parameters,
            parts: u64::from(tiles) * u64::from(split) * QUANTIZE_PART,
            counters: tiles,
        }
    }

    /// Y += T·Bᵀ for `tiles` entries of [`Operand::Tokens`], T with rows of `t_stride`.
    ///
    /// Of `shape` only m and n count. No entry may be without an adapter.
    pub fn expand(form: Form, shape: Shape, tiles: u32, t_stride: u32, output: Output) -> Self {
        let kernel = Kernel::Expand(form);
        let pointers = [
            Operand::T,
            Operand::Tokens,
            Operand::BOf,
            Operand::RankOf,
            Operand::Y,
        ];
        let mut parameters = pointers.map(Parameter::Pointer).to_vec();
        parameters.extend([shape.n, t_stride, shape.n].map(Parameter::Number));
        parameters.push(output.flag());
        Self::whole(kernel, Dim(shape.n.div_ceil(64), tiles, 1), parameters)
    }

    /// Whether the hardware takes grid, shared memory and every tensor map.
    ///
    /// # Errors
    /// The first that it does not take.
    pub fn check(&self) -> xgraft_cuda_jit::Result<()> {
        self.launch.check()?;
        let maps = self
            .parameters
            .iter()
            .filter_map(|parameter| match parameter {
                Parameter::Map(_, map) => Some(map),
                _ => None,
            });
        maps.into_iter().try_for_each(TensorShape::check)
    }
}

/// The maps of an adapter and its number of slots, where the tile has them.
fn adapter(tile: Tile, rank: u32, maps: [Parameter; 2]) -> Vec<Parameter> {
    assert!(
        tile.lora == (rank > 0),
        "a tile with slots for an adapter needs one"
    );
    if !tile.lora {
        return Vec::new();
    }
    let slots = Parameter::Number(rank.div_ceil(BLOCK / 2));
    maps.into_iter().chain([slots]).collect()
}

/// Tiles of at most 16 tokens with one adapter each, as [`Operand::Tokens`] has them, for tokens in runs of one adapter.
pub fn token_tiles(runs: &[(u32, u32)]) -> Vec<[u32; 3]> {
    let mut tiles = Vec::new();
    let mut first = 0;
    for &(tokens, adapter) in runs {
        let end = first + tokens;
        while first < end {
            let count = TOKENS.min(end - first);
            tiles.push([first, count, adapter]);
            first += count;
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_is_in_exactly_one_tile_of_its_adapter(runs in proptest::collection::vec((0u32..50, 0u32..4), 0..8)) {
            let tiles = token_tiles(&runs);
            let of_tiles = tiles.iter().flat_map(|&[_, count, adapter]| std::iter::repeat_n(adapter, count as usize));
            let of_runs = runs.iter().flat_map(|&(count, adapter)| std::iter::repeat_n(adapter, count as usize));
            prop_assert_eq!(of_tiles.collect::<Vec<_>>(), of_runs.collect::<Vec<_>>());
            let mut next = 0;
            for [first, count, _] in tiles {
                prop_assert!(first == next && (1..=TOKENS).contains(&count));
                next += count;
            }
        }
    }
}
