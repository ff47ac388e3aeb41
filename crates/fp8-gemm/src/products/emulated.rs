//! The double on the CPU.

use half::bf16;
use rayon::prelude::*;
use xgraft_fp8_codec::{E4m3, Overflow};

use super::{Activations, Adapter, Products, Run, Weight, check_length};
use crate::{
    BLOCK, Error, Result, Shape,
    call::Output,
    emulator::{self, Operands, product},
    plan::{Choice, Gpu, MOST_RANK, Table, choose, room},
};

/// [`Products`] by the emulator of the tensor core: what a GPU would plan, and the bits that it should give.
///
/// T and what an expand adds afterwards come from f64 rounded once, near what a GPU gives and not bit for bit.
#[derive(Clone, Debug)]
pub struct Emulated {
    gpu: Gpu,
    table: Table,
}

impl Emulated {
    /// As this GPU would, by this table.
    pub fn new(gpu: Gpu, table: Table) -> Self {
        Self { gpu, table }
    }
}

type Memory = std::sync::Arc<[u8]>;

impl Products for Emulated {
    type Memory = Memory;

    fn write(&self, bytes: &[u8]) -> Result<Memory> {
        Ok(bytes.into())
    }

    fn read(&self, memory: &Memory) -> Result<Vec<u8>> {
        Ok(memory.to_vec())
    }

    fn reserve(&mut self, most_tokens: u32, n: u32, k: u32, rank: u32) -> Result<()> {
        room(&self.table, self.gpu, (most_tokens, n, k), rank).map(|_| ())
    }

    fn quantize(
        &mut self,
        x: &Memory,
        (m, k): (u32, u32),
        adapters: &[Adapter<Memory>],
        runs: &[Run],
    ) -> Result<Activations<Memory>> {
        let shape = Shape::new(m, 1, k)?;
        let x = bf16s(x);
        check_length("x", x.len(), m as usize * k as usize)?;
        let tokens: u32 = runs.iter().map(|run| run.tokens).sum();
        check_length("the tokens of all runs", tokens as usize, m as usize)?;
        let mut t_stride = 0;
        // An adapter without tokens has no room in T, so that where one adapter serves all, the rows of T are its rank.
        let with_tokens = runs.iter().filter(|run| run.tokens > 0);
        for adapter in with_tokens.filter_map(|run| run.adapter) {
            let adapter = adapters.get(adapter).ok_or(Error::Length {
                what: "the list of adapters",
                found: adapters.len(),
                expected: adapter + 1,
            })?;
            if adapter.rank > MOST_RANK {
                return Err(Error::Rank { rank: adapter.rank });
            }
            t_stride = t_stride.max(adapter.rank);
        }
        let (codes, scales) = quantized(shape, &x);
        let mut t = vec![bf16::ZERO; m as usize * t_stride as usize];
        for (token, adapter) in tokens_of(runs) {
            let Some(adapter) = adapter.map(|adapter| &adapters[adapter]) else {
                continue;
            };
            let row = &x[token * k as usize..][..k as usize];
            let a = bf16s(&adapter.a);
            let out = &mut t[token * t_stride as usize..][..adapter.rank as usize];
            for (t, a) in out.iter_mut().zip(a.chunks_exact(k as usize)) {
                *t = bf16::from_f32(dot(row, a) as f32 * adapter.factor);
            }
        }
        Ok(Activations {
            m,
            k,
            codes: codes.into(),
            scales: scales.iter().flat_map(|s| s.to_le_bytes()).collect(),
            t: t.iter().flat_map(|t| t.to_le_bytes()).collect(),
            t_stride,
            runs: runs.to_vec(),
        })
    }

    fn multiply(
        &mut self,
        x: &Activations<Memory>,
        weight: &Weight<Memory>,
        adapters: &[Adapter<Memory>],
        output: Output,
    ) -> Result<Memory> {
        let shape = Shape::new(x.m, weight.n, weight.k)?;
        check_length("a row of the activations", x.k as usize, weight.k as usize)?;
        let (x_scales, w_scales) = (f32s(&x.scales), f32s(&weight.scales));
        let operands = Operands {
            shape,
            x: &x.codes,
            x_scales: &x_scales,
            w: &weight.codes,
            w_scales: &w_scales,
        };
        let uniform = x.uniform().and_then(|adapter| adapters.get(adapter));
        let rank = uniform.map_or(0, |adapter| adapter.rank);
        let choice = choose(&self.table, self.gpu, shape, rank)?;
        let t = bf16s(&x.t);
        let fused = uniform.filter(|_| !matches!(choice, Choice::Plain(_)));
        let b = fused.map(|adapter| bf16s(&adapter.b));
        let fused = b.as_ref().map(|b| emulator::Adapter { rank, t: &t, b });
        let mut y = product(&operands, fused.as_ref(), choice.parts(self.gpu));
        round(&mut y, output);
        if fused.is_none() {
            expand(&mut y, shape, x, &t, adapters);
            round(&mut y, output);
        }
        Ok(match output {
            Output::F32 => y.iter().flat_map(|y| y.to_le_bytes()).collect(),
            Output::Bf16 => y
                .iter()
                .flat_map(|&y| bf16::from_f32(y).to_le_bytes())
                .collect(),
        })
    }
}

/// Codes `[m, k]` and scales as [`Shape::x_scale`] has them.
pub(crate) fn quantized(shape: Shape, x: &[bf16]) -> (Vec<u8>, Vec<f32>) {
    let mut scales = vec![0.0; (shape.k_blocks() * shape.scale_stride()) as usize];
    let mut codes = Vec::with_capacity(x.len());
    for (token, row) in x.chunks_exact(shape.k as usize).enumerate() {
        for (block, values) in row.chunks(BLOCK as usize).enumerate() {
            let amax = values
                .iter()
                .fold(0f32, |amax, v| amax.max(v.to_f32().abs()));
            let scale = amax / E4m3::MAX;
            let scale = if scale == 0.0 { 1.0 } else { scale };
            scales[shape.x_scale(token as u32, block as u32)] = scale;
            codes.extend(values.iter().map(|v| {
                // The GPU has one NaN.
                let code = E4m3::encode(v.to_f32() / scale, Overflow::Saturate);
                if code.is_nan() { 0x7f } else { code.to_bits() }
            }));
        }
    }
    (codes, scales)
}

/// Adds T·Bᵀ of each token's own adapter.
fn expand(
    y: &mut [f32],
    shape: Shape,
    x: &Activations<Memory>,
    t: &[bf16],
    adapters: &[Adapter<Memory>],
) {
    for (token, adapter) in tokens_of(&x.runs) {
        let Some(adapter) = adapter.and_then(|adapter| adapters.get(adapter)) else {
            continue;
        };
        let (rank, b) = (adapter.rank as usize, bf16s(&adapter.b));
        let t = &t[token * x.t_stride as usize..][..rank];
        let row = &mut y[token * shape.n as usize..][..shape.n as usize];
        let rows_of_b = b.par_chunks_exact(rank);
        row.par_iter_mut()
            .zip(rows_of_b)
            .for_each(|(y, b)| *y += dot(t, b) as f32);
    }
}

fn round(y: &mut [f32], output: Output) {
    if output == Output::Bf16 {
        y.iter_mut().for_each(|y| *y = bf16::from_f32(*y).to_f32());
    }
}

/// Every token with its adapter.
fn tokens_of(runs: &[Run]) -> impl Iterator<Item = (usize, Option<usize>)> {
    let adapters = runs
        .iter()
        .flat_map(|run| std::iter::repeat_n(run.adapter, run.tokens as usize));
    adapters.enumerate()
}

fn dot(a: &[bf16], b: &[bf16]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

fn bf16s(bytes: &[u8]) -> Vec<bf16> {
    bytes
        .chunks_exact(2)
        .map(|b| bf16::from_le_bytes([b[0], b[1]]))
        .collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}
