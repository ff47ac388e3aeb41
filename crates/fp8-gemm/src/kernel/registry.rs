//! Every configuration there is.

use xgraft_cuda_jit::{Arch, Program, Target};

use super::{Resources, text};
use crate::ring::Ring;

/// The sizes of a kernel that turns a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of the operand on wgmma's M side: tokens in prefill, rows of W in decode.
    pub rows_a: u32,
    /// Rows of the operand on wgmma's N side.
    pub rows_b: u32,
    /// Slots of the ring.
    pub stages: u32,
    /// Warp-groups that multiply.
    pub groups: u32,
    /// Blocks that share the operand on wgmma's M side.
    pub cluster: u32,
    /// Whether slots of an adapter follow the blocks of k.
    pub lora: bool,
}

/// What a kernel without a ring is compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Machine code of Hopper.
    Hopper,
    /// PTX for every GPU from sm_80 on.
    Ptx,
}

/// A kernel in one of its configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Many tokens; `rows_a` of them in a tile.
    Prefill(Tile),
    /// Few tokens; `rows_b` of them in a tile.
    Decode(Tile),
    /// Any shape, readable.
    Plain(Form),
    /// X to codes, scales and T.
    Quantize(Form),
    /// Y += T Bᵀ for tokens of different adapters.
    Expand(Form),
    /// Few tokens that are not quantized.
    W8a16,
}

const fn tile(rows_a: u32, rows_b: u32, stages: u32, groups: u32, cluster: u32) -> Tile {
    Tile {
        rows_a,
        rows_b,
        stages,
        groups,
        cluster,
        lora: false,
    }
}

/// Tiles of tokens × rows of W.
const PREFILL: &[Tile] = &[
    tile(64, 128, 8, 1, 1),
    tile(128, 128, 6, 2, 1),
    tile(128, 128, 6, 2, 2),
    tile(256, 128, 4, 2, 2),
];

/// Tiles of rows of W × tokens.
const DECODE: &[Tile] = &[
    tile(128, 8, 12, 2, 1),
    tile(128, 16, 12, 2, 1),
    tile(128, 32, 10, 2, 1),
    tile(128, 64, 8, 2, 1),
    tile(128, 128, 6, 2, 1),
];

/// Every configuration that is shipped, in the order of this file.
pub fn all() -> Vec<Kernel> {
    let with_lora = |tile: &Tile| [false, true].map(|lora| Tile { lora, ..*tile });
    let prefill = PREFILL.iter().flat_map(with_lora).map(Kernel::Prefill);
    let decode = DECODE.iter().flat_map(with_lora).map(Kernel::Decode);
    let forms: [fn(Form) -> Kernel; 3] = [Kernel::Plain, Kernel::Quantize, Kernel::Expand];
    let others = forms.map(|kernel| [Form::Hopper, Form::Ptx].map(kernel));
    let others = others.into_iter().flatten().chain([Kernel::W8a16]);
    prefill.chain(decode).chain(others).collect()
}

impl Kernel {
    /// The name of the function in the image.
    pub const fn function(self) -> &'static str {
        match self {
            Self::Prefill(_) => "prefill",
            Self::Decode(_) => "decode",
            Self::Plain(_) => "plain",
            Self::Quantize(_) => "quantize",
            Self::Expand(_) => "expand",
            Self::W8a16 => "w8a16",
        }
    }

    /// The name of the configuration: `prefill-256x128-s4-c2-lora`.
    pub fn name(self) -> String {
        match self {
            Self::Prefill(tile) | Self::Decode(tile) => {
                let lora = if tile.lora { "-lora" } else { "" };
                let Tile {
                    rows_a,
                    rows_b,
                    stages,
                    cluster,
                    ..
                } = tile;
                let cluster = match cluster {
                    1 => String::new(),
                    blocks => format!("-c{blocks}"),
                };
                format!(
                    "{}-{rows_a}x{rows_b}-s{stages}{cluster}{lora}",
                    self.function()
                )
            }
            other => match other.target() {
                Target::Ptx(_) => format!("{}-ptx", other.function()),
                Target::Cubin(_) => other.function().to_owned(),
            },
        }
    }

    /// The sizes of a kernel that turns a ring.
    pub const fn tile(self) -> Option<Tile> {
        match self {
            Self::Prefill(tile) | Self::Decode(tile) => Some(tile),
            _ => None,
        }
    }

    /// The table of its ring.
    pub fn ring(self) -> Option<Ring> {
        let tile = self.tile()?;
        let ring = Ring::new(tile.stages, tile.groups * 4, tile.cluster);
        Some(match self {
            Self::Decode(_) => ring.with_early(),
            _ => ring,
        })
    }

    /// Threads, registers and shared memory.
    pub fn resources(self) -> Resources {
        match self {
            Self::Prefill(tile) => Resources::of_ring(tile, tile.rows_a),
            Self::Decode(tile) => Resources::of_ring(tile, tile.rows_b),
            Self::Plain(_) | Self::Expand(_) => Resources::without_ring(128),
            Self::Quantize(_) | Self::W8a16 => Resources::without_ring(256),
        }
    }

    /// Whether it waits by itself for the kernel in front of it, and so may begin before that has ended.
    pub const fn waits(self) -> bool {
        matches!(self.target(), Target::Cubin(_)) && !matches!(self, Self::Plain(_))
    }

    /// What it is compiled for.
    pub const fn target(self) -> Target {
        match self {
            Self::Plain(Form::Ptx) | Self::Quantize(Form::Ptx) | Self::Expand(Form::Ptx) => {
                Target::Ptx(Arch::SM80)
            }
            _ => Target::Cubin(Arch::SM90A),
        }
    }

    /// The whole text and its macros.
    pub fn program(self) -> Program {
        Program::new(self.name(), text::of(self), self.target())
    }

    /// The same text as a C++ program that runs the kernel on a CPU: what the tests are of.
    pub fn host_program(self, parameters: usize) -> String {
        text::of_host(self, parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_digests_are_unique() {
        let names: HashSet<String> = all().into_iter().map(Kernel::name).collect();
        assert_eq!(names.len(), all().len());
        let digests: HashSet<String> = all()
            .iter()
            .map(|kernel| kernel.program().digest())
            .collect();
        assert_eq!(digests.len(), all().len());
    }

    #[test]
    fn every_configuration_is_legal() {
        for kernel in all() {
            let fault = kernel.resources().fault();
            assert_eq!(fault, None, "{}", kernel.name());
        }
    }

    #[test]
    fn a_tile_never_touches_two_scales_of_the_weight() {
        for kernel in all() {
            let rows_of_w = match kernel {
                Kernel::Prefill(tile) => tile.rows_b,
                Kernel::Decode(tile) => tile.rows_a,
                _ => continue,
            };
            assert_eq!(128 % rows_of_w, 0, "{}", kernel.name());
        }
    }
}
