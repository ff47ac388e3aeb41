//! Which kernel computes a product, in which tiles and parts. Pure: the same question has the same answer on every machine.
//!
//! A row of the measured [`Table`] decides where there is one; else the [`model`](mod@model) guesses, and it is a guess: it was fitted to
//! nothing, its constants are those of the hardware's data sheet.

pub mod model;
mod table;

pub use table::{Row, Table};

use crate::{
    Error, Result, Shape,
    call::{Call, Output},
    kernel::{Form, Kernel, Tile, all},
    schedule::{Parts, Work},
};

/// The GPU that is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Compute capability, 9 and 0 for Hopper.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
}

impl Gpu {
    /// An H100 SXM.
    pub const H100: Self = Self {
        capability: (9, 0),
        multiprocessors: 132,
    };

    /// What kernels without a ring are compiled to for it.
    pub const fn form(self) -> Form {
        match self.capability {
            (9, 0) => Form::Hopper,
            _ => Form::Ptx,
        }
    }
}

/// What is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Many tokens.
    Prefill {
        /// The tile.
        tile: Tile,
        /// Tiles of m in a band.
        band: u32,
        /// Whether tiles are cut where whole ones would leave some multiprocessors idle.
        cut: bool,
    },
    /// Few tokens.
    Decode {
        /// The tile.
        tile: Tile,
        /// Blocks of the grid.
        blocks: u32,
    },
    /// The readable kernel, which has no slots for an adapter: [`Call::expand`] follows where there is one.
    Plain(Form),
}

/// Largest rank of an adapter.
pub const MOST_RANK: u32 = 256;

/// The kernel of a product with an adapter of a rank, 0 for none.
///
/// # Errors
/// A GPU older than sm_80; a rank that is no multiple of 8 or above 256.
pub fn choose(table: &Table, gpu: Gpu, shape: Shape, rank: u32) -> Result<Choice> {
    if gpu.capability < (8, 0) {
        return Err(Error::Gpu {
            major: gpu.capability.0,
            minor: gpu.capability.1,
        });
    }
    if !rank.is_multiple_of(8) || rank > MOST_RANK {
        return Err(Error::Rank { rank });
    }
    if gpu.form() == Form::Ptx || !shape.has_tma_rows() {
        return Ok(Choice::Plain(gpu.form()));
    }
    let measured = table.choice(gpu, shape, rank > 0);
    Ok(measured.unwrap_or_else(|| guess(gpu, shape, rank)))
}

/// The candidate for which the model expects the least time; the first of several.
fn guess(gpu: Gpu, shape: Shape, rank: u32) -> Choice {
    let mut best = (f64::INFINITY, Choice::Plain(gpu.form()));
    for candidate in candidates(gpu, shape, rank) {
        let time = model::microseconds(gpu, shape, rank, candidate);
        if time < best.0 {
            best = (time, candidate);
        }
    }
    best.1
}

/// Everything that could compute a product on Hopper with TMA. A rank of 0 stands for no adapter.
pub fn candidates(gpu: Gpu, shape: Shape, rank: u32) -> Vec<Choice> {
    let kernels = all().into_iter();
    let kernels =
        kernels.filter(|kernel| kernel.tile().is_some_and(|tile| tile.lora == (rank > 0)));
    kernels
        .flat_map(|kernel| match kernel {
            Kernel::Prefill(tile) => {
                let band = BAND;
                let ways = [false, true].into_iter();
                ways.map(|cut| Choice::Prefill { tile, band, cut })
                    .collect()
            }
            Kernel::Decode(tile) => {
                let grids = grids(gpu, shape, rank, tile);
                grids
                    .map(|blocks| Choice::Decode { tile, blocks })
                    .collect()
            }
            _ => Vec::new(),
        })
        .collect()
}

/// Tiles of m in a band, where nothing else was measured.
pub const BAND: u32 = 8;

/// Every multiprocessor, with cuts wherever they fall; or fewer, with every tile cut alike.
fn grids(gpu: Gpu, shape: Shape, rank: u32, tile: Tile) -> impl Iterator<Item = u32> {
    let most = gpu.multiprocessors;
    let Work { tiles, slots, .. } =
        Work::whole(shape, rank, (tile.rows_a, tile.rows_b), u32::MAX, most);
    let alike = (1..=slots).map(move |parts| tiles.count().saturating_mul(parts));
    let alike = alike.take_while(move |&blocks| blocks < most);
    std::iter::once(most).chain(alike)
}

/// Room that the parts of a product take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes of [`crate::call::Operand::Parts`].
    pub parts: u64,
    /// Numbers of [`crate::call::Operand::Counters`].
    pub counters: u32,
}

/// Room for every product of up to `most` tokens with a weight of `n` × `k` and an adapter of a rank, 0 for none: what is reserved
/// once, so that nothing is allocated between two steps.
///
/// # Errors
/// As [`choose`].
pub fn room(table: &Table, gpu: Gpu, (most, n, k): (u32, u32, u32), rank: u32) -> Result<Room> {
    let mut room = Room::default();
    for m in 1..=most {
        let shape = Shape::new(m, n, k)?;
        let call = choose(table, gpu, shape, rank)?.call(gpu, shape, rank, Output::F32);
        room.parts = room.parts.max(call.parts);
        room.counters = room.counters.max(call.counters);
    }
    Ok(room)
}

impl Choice {
    /// The kernel's configuration.
    pub const fn kernel(self) -> Kernel {
        match self {
            Self::Prefill { tile, .. } => Kernel::Prefill(tile),
            Self::Decode { tile, .. } => Kernel::Decode(tile),
            Self::Plain(form) => Kernel::Plain(form),
        }
    }

    /// What is summed at once; what the emulator must be told for the same bits.
    pub const fn parts(self, gpu: Gpu) -> Parts {
        match self {
            Self::Decode { tile, blocks } => Parts::Cut {
                sides: (tile.rows_a, tile.rows_b),
                band: u32::MAX,
                workers: blocks,
            },
            Self::Prefill {
                tile,
                band,
                cut: true,
            } => {
                let clusters = gpu.multiprocessors / tile.cluster;
                Parts::Cut {
                    sides: (tile.rows_b * tile.cluster, tile.rows_a),
                    band,
                    workers: if clusters > 0 { clusters } else { 1 },
                }
            }
            _ => Parts::Whole,
        }
    }

    /// Blocks of the grid in decode; in prefill the tiles of a band, or 0 for tiles that are cut, in bands of [`BAND`]. What tables and
    /// requests call a choice by, beside its kernel.
    pub const fn number(self) -> u32 {
        match self {
            Self::Decode { blocks, .. } => blocks,
            Self::Prefill { cut: true, .. } => 0,
            Self::Prefill { band, .. } => band,
            Self::Plain(_) => 1,
        }
    }

    /// The choice of a kernel and [`Self::number`]; none for a kernel that computes no product by itself, and for no blocks.
    pub fn of_number(kernel: Kernel, number: u32) -> Option<Self> {
        match kernel {
            Kernel::Prefill(tile) => Some(Self::Prefill {
                tile,
                band: if number > 0 { number } else { BAND },
                cut: number == 0,
            }),
            Kernel::Decode(tile) if number > 0 => Some(Self::Decode {
                tile,
                blocks: number,
            }),
            Kernel::Plain(form) => Some(Self::Plain(form)),
            _ => None,
        }
    }

    /// Grid and parameters.
    ///
    /// # Panics
    /// If the choice was made for a product with an adapter and there is none, or the other way round.
    pub fn call(self, gpu: Gpu, shape: Shape, rank: u32, output: Output) -> Call {
        match self {
            Self::Prefill { tile, band, cut } => {
                let most = gpu.multiprocessors;
                Call::prefill(tile, shape, rank, output, (band, cut), most)
            }
            Self::Decode { tile, blocks } => Call::decode(tile, shape, rank, output, blocks),
            Self::Plain(form) => Call::plain(form, shape, output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(m: u32, n: u32, k: u32) -> Choice {
        let shape = Shape::new(m, n, k).expect("not empty");
        choose(&Table::default(), Gpu::H100, shape, 0).expect("chosen")
    }

    /// n and k of the linear layers of Qwen3-32B: qkv, o, gate_up, down.
    const LAYERS: [(u32, u32); 4] = [(10240, 5120), (5120, 8192), (51200, 5120), (5120, 25600)];

    #[test]
    fn one_token_is_decoded_by_the_narrowest_tile_on_nearly_all_multiprocessors() {
        for (n, k) in LAYERS {
            let Choice::Decode { tile, blocks } = chosen(1, n, k) else {
                panic!("{n} {k}")
            };
            assert_eq!(tile.rows_b, 8);
            assert!(blocks >= 110, "{n} {k}: {blocks} blocks");
        }
    }

    #[test]
    fn thousands_of_tokens_are_prefilled_in_large_tiles() {
        for (n, k) in LAYERS {
            let Choice::Prefill { tile, .. } = chosen(4096, n, k) else {
                panic!("{n} {k}")
            };
            assert!(tile.rows_a * tile.rows_b >= 128 * 128);
        }
    }

    #[test]
    fn what_tma_cannot_read_and_what_is_no_hopper_goes_to_the_plain_kernel() {
        assert_eq!(chosen(1, 128, 100), Choice::Plain(Form::Hopper));
        let shape = Shape::new(1, 128, 128).expect("not empty");
        let gpu = |capability| Gpu {
            capability,
            multiprocessors: 108,
        };
        let on = |capability| choose(&Table::default(), gpu(capability), shape, 0);
        assert_eq!(on((8, 0)).expect("chosen"), Choice::Plain(Form::Ptx));
        assert_eq!(on((10, 0)).expect("chosen"), Choice::Plain(Form::Ptx));
        assert!(matches!(on((7, 5)), Err(Error::Gpu { major: 7, minor: 5 })));
    }

    #[test]
    fn the_room_of_many_tokens_is_enough_for_each_number_of_them() {
        let table = Table::default();
        for (n, k) in LAYERS {
            let room = room(&table, Gpu::H100, (300, n, k), 64).expect("planned");
            assert!(room.parts < 64 << 20, "{n} {k}: {room:?}");
            for m in [1, 7, 16, 64, 128, 129, 300] {
                let shape = Shape::new(m, n, k).expect("not empty");
                let choice = choose(&table, Gpu::H100, shape, 64).expect("chosen");
                let call = choice.call(Gpu::H100, shape, 64, Output::Bf16);
                assert!(call.parts <= room.parts && call.counters <= room.counters);
            }
        }
    }

    #[test]
    fn ranks_that_no_kernel_takes_are_refused() {
        let shape = Shape::new(1, 128, 128).expect("not empty");
        for rank in [4, 264] {
            let choice = choose(&Table::default(), Gpu::H100, shape, rank);
            assert!(matches!(choice, Err(Error::Rank { .. })));
        }
    }

    proptest! {
        #[test]
        fn every_choice_is_a_call_that_the_hardware_takes(
            m in 1u32..5000, n in 1u32..60000, k in 1u32..30000, rank in 0u32..33, multiprocessors in 1u32..200,
        ) {
            let shape = Shape::new(m, n, k).expect("not empty");
            let gpu = Gpu { multiprocessors, ..Gpu::H100 };
            let choice = choose(&Table::default(), gpu, shape, rank * 8).expect("chosen");
            let call = choice.call(gpu, shape, rank * 8, Output::Bf16);
            prop_assert!(call.check().is_ok(), "{:?}", call.check());
        }
    }
}
