//! What `model` asks of a GPU: weights and adapters that stay there, activations that are quantized once and multiplied by
//! several weights, and results in order.
//!
//! [`Products`] is the interface. [`Emulated`] is its double on the CPU, which plans as the GPU would and gives the bits that
//! [`crate::emulator`] says. The backend on CUDA is to implement the same trait and pass the same tests.
//!
//! # Contract
//!
//! - **Overlap.** On CUDA a kernel may begin before the one in front of it has ended, and reads W, its scales and B at once: whoever writes
//!   those waits before the next product. Everything else is read and written in order.
//! - **Order.** What a method starts runs after everything that was started before; [`Products::read`] waits for it. A backend is one
//!   stream; two backends on one device run beside each other. On CUDA the stream is its maker's ([`xgraft_cuda_jit::Device::open_on`]).
//! - **Weights** are E4M3 under 128 × 128 scales, `[out_features, in_features]`, as `block-scale` has them. Matrices with the same input
//!   (q, k and v; gate and up) are one weight where their rows are multiples of 128, so that blocks of scales do not meet.
//! - **Activations** come in BF16 `[m, k]` and are quantized to E4M3 under 1 × 128 scales, [`crate::Shape::x_scale`] saying where each lies.
//!   T = factor · X·Aᵀ of each token's own adapter is made on the way and rounded to BF16.
//! - **Adapters** have ranks of multiples of 8 up to 256; PEFT's alpha / r is the factor. A batch is given as runs of tokens.
//!   Where one adapter serves all tokens, T·Bᵀ is added to the promoted sum before it is rounded; else Y is rounded first, and T·Bᵀ is
//!   added to what was rounded.
//! - **Workspace** is grown by [`Products::reserve`] alone. Results and parts are taken from it, and are its again when the last clone is
//!   dropped, so that nothing is allocated between two steps and a graph can be captured of one.
//! - **Determinism.** The bits of Y depend on the operands and the plan of (m, n, k, rank), on nothing else.

mod emulated;

pub use emulated::Emulated;
pub(crate) use emulated::quantized;

use half::bf16;
use xgraft_block_scale::{BlockShape, Format, QuantizedMatrix};

use crate::{Error, Result, Shape, call::Output, plan::MOST_RANK};

/// A weight on the device.
#[derive(Clone, Debug)]
pub struct Weight<M> {
    /// Rows: out_features.
    pub n: u32,
    /// Columns: in_features.
    pub k: u32,
    /// E4M3 codes `[n, k]`.
    pub codes: M,
    /// F32 `[ceil(n / 128), ceil(k / 128)]`.
    pub scales: M,
}

/// The factors of one adapter for one weight, on the host.
#[derive(Clone, Copy, Debug)]
pub struct Factors<'a> {
    /// A multiple of 8 up to 256.
    pub rank: u32,
    /// What X·Aᵀ is multiplied by: alpha / r.
    pub factor: f32,
    /// `[rank, k]`.
    pub a: &'a [bf16],
    /// `[n, rank]`.
    pub b: &'a [bf16],
}

/// An adapter for one weight, on the device.
#[derive(Clone, Debug)]
pub struct Adapter<M> {
    /// Its rank.
    pub rank: u32,
    /// What X·Aᵀ is multiplied by.
    pub factor: f32,
    /// BF16 `[rank, k]`.
    pub a: M,
    /// BF16 `[n, rank]`.
    pub b: M,
}

/// Consecutive tokens with one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many.
    pub tokens: u32,
    /// Which of the adapters that are given along; none for the base alone.
    pub adapter: Option<usize>,
}

/// Activations on the device, quantized.
#[derive(Clone, Debug)]
pub struct Activations<M> {
    /// Tokens.
    pub m: u32,
    /// Columns.
    pub k: u32,
    /// E4M3 codes `[m, k]`.
    pub codes: M,
    /// F32 `[ceil(k / 128), m up to a multiple of 4]`.
    pub scales: M,
    /// BF16 `[m, t_stride]`: T of each token's own adapter.
    pub t: M,
    /// The largest rank of the adapters that have tokens, 0 without any.
    pub t_stride: u32,
    /// The adapters' tokens.
    pub runs: Vec<Run>,
}

impl<M> Activations<M> {
    /// The adapter of all tokens, if it is one.
    pub fn uniform(&self) -> Option<usize> {
        let mut adapters = self
            .runs
            .iter()
            .filter(|run| run.tokens > 0)
            .map(|run| run.adapter);
        let first = adapters.next()??;
        adapters
            .all(|adapter| adapter == Some(first))
            .then_some(first)
    }
}

/// Products of quantized activations and weights, on whatever has them.
pub trait Products {
    /// Memory of the device. A clone is the same memory.
    type Memory: Clone;

    /// Bytes to the device.
    ///
    /// # Errors
    /// There is no room.
    fn write(&self, bytes: &[u8]) -> Result<Self::Memory>;

    /// Bytes from the device, when everything that was started has ended.
    ///
    /// # Errors
    /// What went wrong on the device since the last call.
    fn read(&self, memory: &Self::Memory) -> Result<Vec<u8>>;

    /// Makes room for the activations, parts and result of every product of up to `most_tokens` with a weight of `n` × `k` and adapters of
    /// ranks up to `rank`, 0 for none.
    ///
    /// # Errors
    /// There is no room.
    fn reserve(&mut self, most_tokens: u32, n: u32, k: u32, rank: u32) -> Result<()>;

    /// X in BF16 `[m, k]` to codes and scales, with T for the adapters of the weight that X goes to.
    ///
    /// # Errors
    /// Sizes that contradict each other, runs that are not m tokens, a rank that no kernel takes.
    fn quantize(
        &mut self,
        x: &Self::Memory,
        shape: (u32, u32),
        adapters: &[Adapter<Self::Memory>],
        runs: &[Run],
    ) -> Result<Activations<Self::Memory>>;

    /// Y = X·Wᵀ and what the adapters add, `[m, n]`. The adapters are those that X was quantized with.
    ///
    /// # Errors
    /// Sizes that contradict each other; no kernel for the shape.
    fn multiply(
        &mut self,
        x: &Activations<Self::Memory>,
        weight: &Weight<Self::Memory>,
        adapters: &[Adapter<Self::Memory>],
        output: Output,
    ) -> Result<Self::Memory>;

    /// A weight to the device.
    ///
    /// # Errors
    /// A weight in another format than E4M3 under 128 × 128 scales, or with numbers that are not finite.
    fn weight(&self, matrix: &QuantizedMatrix) -> Result<Weight<Self::Memory>> {
        check_weight(matrix)?;
        let scales: Vec<u8> = matrix.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        Ok(Weight {
            n: matrix.rows as u32,
            k: matrix.cols as u32,
            codes: self.write(&matrix.codes)?,
            scales: self.write(&scales)?,
        })
    }

    /// An adapter of a weight to the device.
    ///
    /// # Errors
    /// A rank that no kernel takes, or factors of other sizes than the weight's.
    fn adapter(
        &self,
        weight: &Weight<Self::Memory>,
        factors: &Factors<'_>,
    ) -> Result<Adapter<Self::Memory>> {
        let rank = factors.rank;
        if rank == 0 || !rank.is_multiple_of(8) || rank > MOST_RANK {
            return Err(Error::Rank { rank });
        }
        check_length("lora_a", factors.a.len(), rank as usize * weight.k as usize)?;
        check_length("lora_b", factors.b.len(), rank as usize * weight.n as usize)?;
        let bytes = |numbers: &[bf16]| -> Vec<u8> {
            numbers.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
        Ok(Adapter {
            rank,
            factor: factors.factor,
            a: self.write(&bytes(factors.a))?,
            b: self.write(&bytes(factors.b))?,
        })
    }
}

fn check_weight(matrix: &QuantizedMatrix) -> Result<()> {
    let wrong = |what, found: String, expected| Error::Weight {
        what,
        found,
        expected,
    };
    if matrix.format != Format::E4m3 {
        return Err(wrong("codes of", format!("{:?}", matrix.format), "E4M3"));
    }
    if matrix.block != BlockShape::B128 {
        return Err(wrong(
            "scales of blocks",
            format!("{:?}", matrix.block),
            "128 x 128",
        ));
    }
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    Shape::new(1, side(matrix.rows), side(matrix.cols))?;
    matrix.check_finite().map_err(|error| {
        wrong(
            "a number that is not finite:",
            error.to_string(),
            "finite numbers",
        )
    })
}

fn check_length(what: &'static str, found: usize, expected: usize) -> Result<()> {
    let fits = found == expected;
    fits.then_some(()).ok_or(Error::Length {
        what,
        found,
        expected,
    })
}
