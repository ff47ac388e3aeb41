//! What a GPU has to pass.

use super::{Case, Content, Machine, Stream, Verdict, case::shape, expand, quantize};
use crate::{
    Result,
    call::{Call, Output},
    kernel::{self, Form, Kernel},
    plan::{BAND, Choice, Gpu, Table, choose},
};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trial {
    /// A product whose bits are known.
    Product {
        /// How it is computed.
        choice: Choice,
        /// m, n and k.
        shape: (u32, u32, u32),
        /// Of the adapter, 0 for none.
        rank: u32,
        /// Of the operands.
        content: Content,
        /// Of Y.
        output: Output,
        /// Further runs, whose bits must be those of the first.
        repeats: u32,
    },
    /// The readable kernel.
    Plain {
        /// As machine code or PTX.
        form: Form,
        /// m, n and k.
        shape: (u32, u32, u32),
    },
    /// The kernel for BF16 tokens.
    W8a16 {
        /// m, n and k.
        shape: (u32, u32, u32),
    },
    /// Quantizing with k in so many parts.
    Quantize {
        /// As machine code or PTX.
        form: Form,
        /// Parts of k.
        split: u32,
    },
    /// Adding what adapters add.
    Expand {
        /// As machine code or PTX.
        form: Form,
    },
}

/// Numbers of tokens on both sides of every tile.
const TOKENS: [u32; 19] = [
    1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 255, 257,
];
/// Rows and columns of Qwen3-32B's linear layers: q, k or v, qkv, o, gate or up, gate_up, down.
const LAYERS: [(u32, u32); 7] = [
    (8192, 5120),
    (1024, 5120),
    (10240, 5120),
    (5120, 8192),
    (25600, 5120),
    (51200, 5120),
    (5120, 25600),
];
/// Blocks of a grid: whole tiles and parts of a few and of many blocks.
const GRIDS: [u32; 4] = [5, 12, 61, 132];
/// Ranks below, at and above a slot of the ring.
const RANKS: [u32; 4] = [8, 64, 72, 256];

/// Every configuration that turns a ring, over so many blocks where it can.
fn ring_kernels(number: u32) -> impl Iterator<Item = Choice> {
    let kernels = kernel::all().into_iter();
    let kernels = kernels.filter(|kernel| kernel.tile().is_some());
    kernels.filter_map(move |kernel| {
        // Prefill has its tiles cut in half of the cases.
        let number = match kernel {
            Kernel::Prefill(_) => number % 2 * BAND,
            _ => number,
        };
        Choice::of_number(kernel, number)
    })
}

fn has_adapter(choice: Choice) -> bool {
    choice.kernel().tile().is_some_and(|tile| tile.lora)
}

fn product(choice: Choice, shape: (u32, u32, u32), number: usize, content: Content) -> Trial {
    let rank = if has_adapter(choice) {
        RANKS[number % RANKS.len()]
    } else {
        0
    };
    Trial::Product {
        choice,
        shape,
        rank,
        content,
        output: Output::F32,
        repeats: 0,
    }
}

/// The tensor core alone: a million sums of 32 products.
fn sums() -> impl Iterator<Item = Trial> {
    let kernels = ring_kernels(132).filter(|choice| !has_adapter(*choice));
    kernels.map(|choice| product(choice, (256, 4096, 32), 0, Content::Random))
}

/// Operands that break what is nearly right.
fn hostile() -> impl Iterator<Item = Trial> {
    let contents = [
        Content::Zeros,
        Content::Largest,
        Content::Smallest,
        Content::WideScales,
        Content::Nans,
    ];
    let kernels = ring_kernels(8).enumerate();
    kernels.flat_map(move |(i, choice)| {
        contents.map(|content| product(choice, (35, 264, 1616), i, content))
    })
}

/// Ragged m, n and k, twenty times each.
fn ragged() -> impl Iterator<Item = Trial> {
    TOKENS.into_iter().enumerate().flat_map(|(i, m)| {
        let kernels = ring_kernels(GRIDS[i % GRIDS.len()]).enumerate();
        kernels.map(move |(j, choice)| {
            let (n, k) = if (i + j) % 2 == 0 {
                (576, 1600)
            } else {
                (2112, 1072)
            };
            match product(choice, (m, n, k), i + j, Content::Random) {
                Trial::Product {
                    choice,
                    shape,
                    rank,
                    content,
                    output,
                    ..
                } => Trial::Product {
                    choice,
                    shape,
                    rank,
                    content,
                    output,
                    repeats: 20,
                },
                other => other,
            }
        })
    })
}

/// What a large model asks for, as it is planned.
fn layers(gpu: Gpu, table: &Table) -> Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for m in [1, 8, 16, 64, 128, 512, 1000, 2048, 4097, 8192] {
        for (n, k) in LAYERS {
            for rank in [0, 64] {
                trials.push(Trial::Product {
                    choice: choose(table, gpu, shape((m, n, k)), rank)?,
                    shape: (m, n, k),
                    rank,
                    content: Content::Random,
                    output: if m < 512 { Output::F32 } else { Output::Bf16 },
                    repeats: if m <= 128 { 100 } else { 0 },
                });
            }
        }
    }
    Ok(trials)
}

/// The kernels without a ring.
fn others(gpu: Gpu) -> Vec<Trial> {
    let plain = [(70, 133, 301), (1, 1, 1), (64, 64, 128), (3, 260, 129)];
    let w8a16 = [(1, 9, 1552), (3, 140, 528), (6, 300, 16)];
    // Hopper runs both forms.
    let forms = match gpu.form() {
        Form::Ptx => vec![Form::Ptx],
        Form::Hopper => vec![Form::Ptx, Form::Hopper],
    };
    let mut trials = Vec::new();
    for form in forms {
        trials.extend(plain.map(|shape| Trial::Plain { form, shape }));
        trials.extend([1, 3].map(|split| Trial::Quantize { form, split }));
        trials.push(Trial::Expand { form });
    }
    if gpu.form() == Form::Hopper {
        trials.extend(w8a16.map(|shape| Trial::W8a16 { shape }));
    }
    trials
}

/// Everything, what says most first.
///
/// # Errors
/// A GPU that no kernel runs on.
pub fn all(gpu: Gpu, table: &Table) -> Result<Vec<Trial>> {
    let layers = layers(gpu, table)?;
    let mut trials = others(gpu);
    if gpu.capability == (9, 0) {
        trials.extend(sums().chain(hostile()).chain(ragged()).chain(layers));
    }
    Ok(trials)
}

/// Every kernel once, small enough for a tool that watches every access.
pub fn small(gpu: Gpu) -> Vec<Trial> {
    let ring = ring_kernels(5).enumerate();
    let ring = ring.map(|(i, choice)| product(choice, (9, 136, 528), i, Content::Random));
    let mut trials = others(gpu);
    trials.extend(ring.filter(|_| gpu.capability == (9, 0)));
    trials
}

impl Trial {
    /// The kernel that is tried.
    pub fn kernel(&self) -> Kernel {
        match self {
            Self::Product { choice, .. } => choice.kernel(),
            Self::Plain { form, .. } => Kernel::Plain(*form),
            Self::W8a16 { .. } => Kernel::W8a16,
            Self::Quantize { form, .. } => Kernel::Quantize(*form),
            Self::Expand { form } => Kernel::Expand(*form),
        }
    }

    /// Another name for every trial.
    pub fn name(&self) -> String {
        let kernel = self.kernel().name();
        match self {
            Self::Product {
                choice,
                shape: (m, n, k),
                rank,
                content,
                output,
                ..
            } => {
                let number = choice.number();
                format!("{kernel}/{number} {m}x{n}x{k} rank {rank} {content:?} {output:?}")
            }
            Self::Plain {
                shape: (m, n, k), ..
            }
            | Self::W8a16 { shape: (m, n, k) } => format!("{kernel} {m}x{n}x{k}"),
            Self::Quantize { split, .. } => format!("{kernel} split {split}"),
            Self::Expand { .. } => kernel,
        }
    }

    /// Further runs from the same operands.
    pub const fn repeats(&self) -> u32 {
        match self {
            Self::Product { repeats, .. } => *repeats,
            Self::Quantize { .. } | Self::Expand { .. } => 20,
            _ => 0,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// What the machine says.
    pub fn judge(&self, gpu: Gpu, machine: &impl Machine) -> std::result::Result<Verdict, String> {
        match *self {
            Self::Product {
                choice,
                shape: sides,
                rank,
                content,
                output,
                repeats,
            } => {
                let shape = shape(sides);
                let case = Case::new(shape, rank, content, 1);
                let call = choice.call(gpu, shape, rank, output);
                case.judge(machine, &call, output, (choice.parts(gpu), repeats))
            }
            Self::Plain { form, shape: sides } => {
                let case = Case::new(shape(sides), 0, Content::Random, 4);
                let call = Call::plain(form, case.shape, Output::F32);
                case.judge_plain(machine, &call)
            }
            Self::W8a16 { shape: sides } => {
                let case = Case::new(shape(sides), 0, Content::Random, 8);
                let tokens = Stream::new(77).bf16(sides.0 as usize * sides.2 as usize);
                case.judge_w8a16(machine, &tokens)
            }
            Self::Quantize { form, split } => quantize(machine, form, split, self.repeats()),
            Self::Expand { form } => expand(machine, form, self.repeats()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kernel_is_tried_and_no_two_trials_have_one_name() {
        let trials = all(Gpu::H100, &Table::default()).expect("planned");
        let names: HashSet<_> = trials.iter().map(Trial::name).collect();
        assert_eq!(names.len(), trials.len());
        for trials in [trials, small(Gpu::H100)] {
            let tried: HashSet<_> = trials.iter().map(Trial::kernel).collect();
            for kernel in kernel::all() {
                assert!(tried.contains(&kernel), "{}", kernel.name());
            }
        }
    }

    #[test]
    fn every_product_is_a_call_that_the_hardware_takes() {
        for trial in all(Gpu::H100, &Table::default()).expect("planned") {
            if let Trial::Product {
                choice,
                shape: sides,
                rank,
                output,
                ..
            } = trial
            {
                let call = choice.call(Gpu::H100, shape(sides), rank, output);
                call.check()
                    .unwrap_or_else(|error| panic!("{}: {error}", trial.name()));
            }
        }
    }

    #[test]
    fn another_gpu_is_asked_for_what_runs_there() {
        let ampere = Gpu {
            capability: (8, 0),
            multiprocessors: 108,
        };
        let trials = all(ampere, &Table::default()).expect("planned");
        assert!(trials.iter().all(|trial| !trial.kernel().waits()));
    }
}
