//! Quantizing with shrink, and expanding, for tokens of different adapters.

use half::bf16;

use super::{Data, Machine, Outcome, Run, Stream, Verdict, bf16s, bytes_of, case::shape, f32s};
use crate::{
    call::{Call, NO_ADAPTER, Operand, Output, token_tiles},
    kernel::Form,
    products::quantized,
};

/// The ranks of the adapters.
const RANKS: [u32; 3] = [64, 8, 256];
/// Numbers of T between two tokens.
const STRIDE: u32 = 256;
/// Tokens, and their adapter.
const RUNS: &[(u32, u32)] = &[(3, 1), (20, NO_ADAPTER), (18, 0), (1, 2)];
/// All of them.
const TOKENS: u32 = 42;

/// Adapters of a batch: their A or B, ranks and factors.
struct Adapters {
    factors: [f32; 3],
    matrices: [Vec<bf16>; 3],
}

impl Adapters {
    fn new(side: u32) -> Self {
        let mut stream = Stream::new(4242);
        Self {
            factors: [0.5, 1.5, 2.5],
            matrices: RANKS.map(|rank| stream.bf16(rank as usize * side as usize)),
        }
    }

    /// Runs a call with these operands, the table of matrices, ranks and factors.
    fn outcome(
        &self,
        machine: &impl Machine,
        call: &Call,
        operands: Vec<(Operand, Vec<u8>)>,
        table: Operand,
        repeats: u32,
    ) -> Result<Outcome, String> {
        let own = [
            (Operand::RankOf, bytes_of(&RANKS, u32::to_le_bytes)),
            (Operand::FactorOf, bytes_of(&self.factors, f32::to_le_bytes)),
        ];
        let operands = operands.into_iter().chain(own);
        let operands = operands.map(|(operand, bytes)| (operand, Data::Bytes(bytes)));
        let table = (table, Data::Table((0..RANKS.len()).collect()));
        let matrices = self.matrices.iter();
        machine.outcome(&Run {
            call,
            operands: operands.chain([table]).collect(),
            extra: matrices
                .map(|matrix| bytes_of(matrix, bf16::to_le_bytes))
                .collect(),
            repeats,
        })
    }
}

fn adapter_of(token: u32) -> Option<usize> {
    let mut first = 0;
    for &(count, adapter) in RUNS {
        first += count;
        if token < first {
            return (adapter != NO_ADAPTER).then_some(adapter as usize);
        }
    }
    None
}

/// Σ aᵢbᵢ and Σ |aᵢbᵢ|.
fn dot(a: &[bf16], b: &[bf16]) -> (f64, f64) {
    let terms = a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64());
    terms.fold((0.0, 0.0), |(sum, size), term| {
        (sum + term, size + term.abs())
    })
}

/// Quantizes with k in so many parts: codes and scales are the codec's, T is each token's own adapter's.
///
/// # Errors
/// What the machine says.
pub fn quantize(
    machine: &impl Machine,
    form: Form,
    split: u32,
    repeats: u32,
) -> Result<Verdict, String> {
    let (m, k) = (TOKENS, 1000);
    let shape = shape((m, 1, k));
    let mut x = Stream::new(6).bf16(m as usize * k as usize);
    x[128..256].fill(bf16::ZERO);
    x[5] = bf16::from_f32(3000.0);
    // Of tokens without an adapter, so that T stays finite.
    x[10 * 1000 + 130] = bf16::NAN;
    x[11 * 1000 + 7] = bf16::NEG_INFINITY;
    let adapters = Adapters::new(k);
    let tiles = token_tiles(RUNS);
    let call = Call::quantize(form, shape, tiles.len() as u32, split, STRIDE);
    let scales = (shape.k_blocks() * shape.scale_stride()) as usize;
    let tokens = bytes_of(&tiles.into_flattened(), u32::to_le_bytes);
    let operands = vec![
        (Operand::X, bytes_of(&x, bf16::to_le_bytes)),
        (Operand::Codes, vec![0xee; (m * k) as usize]),
        (Operand::XScales, vec![0xee; scales * 4]),
        (Operand::Tokens, tokens),
        (Operand::T, vec![0; (m * STRIDE) as usize * 2]),
        (Operand::Parts, vec![0xff; call.parts as usize]),
        (Operand::Counters, vec![0; call.counters as usize * 4]),
    ];
    let outcome = adapters.outcome(machine, &call, operands, Operand::AOf, repeats)?;
    let found = f32s(&outcome.operands[&Operand::XScales]);
    let codes = &outcome.operands[&Operand::Codes];
    let t = bf16s(&outcome.operands[&Operand::T]);
    let mut verdict = Verdict::default();
    let (right_codes, right_scales) = quantized(shape, &x);
    for (ours, right) in codes.iter().zip(right_codes) {
        verdict.bits(f32::from(*ours), f32::from(right));
    }
    for (token, block) in (0..m).flat_map(|token| (0..shape.k_blocks()).map(move |b| (token, b))) {
        let at = shape.x_scale(token, block);
        verdict.bits(found[at], right_scales[at]);
    }
    for token in 0..m {
        let row = &x[(token * k) as usize..][..k as usize];
        let Some(adapter) = adapter_of(token) else {
            continue;
        };
        let factor = f64::from(adapters.factors[adapter]);
        let rows = adapters.matrices[adapter].chunks(k as usize);
        for (r, a) in rows.enumerate() {
            let (sum, size) = dot(row, a);
            let ours = t[(token * STRIDE) as usize + r].to_f64();
            // BF16 keeps eight bits.
            let bound = (sum.abs() / 200.0 + size * 1e-6) * factor;
            verdict.near(ours, sum * factor, bound);
        }
    }
    Ok(verdict.with(&outcome))
}

/// Adds T·Bᵀ of each token's own adapter, and leaves the other tokens as they are.
///
/// # Errors
/// What the machine says.
pub fn expand(machine: &impl Machine, form: Form, repeats: u32) -> Result<Verdict, String> {
    let (m, n) = (TOKENS, 150);
    let adapters = Adapters::new(n);
    let t = Stream::new(99).bf16((m * STRIDE) as usize);
    let before = Stream::new(98).bf16((m * n) as usize);
    let before: Vec<f32> = before.into_iter().map(bf16::to_f32).collect();
    let mut tiles = token_tiles(RUNS);
    tiles.retain(|tile| tile[2] != NO_ADAPTER);
    let call = Call::expand(
        form,
        shape((m, n, 1)),
        tiles.len() as u32,
        STRIDE,
        Output::F32,
    );
    let tokens = bytes_of(&tiles.into_flattened(), u32::to_le_bytes);
    let operands = vec![
        (Operand::T, bytes_of(&t, bf16::to_le_bytes)),
        (Operand::Tokens, tokens),
        (Operand::Y, bytes_of(&before, f32::to_le_bytes)),
    ];
    let outcome = adapters.outcome(machine, &call, operands, Operand::BOf, repeats)?;
    let mut verdict = Verdict::default();
    let y = f32s(&outcome.operands[&Operand::Y]);
    for (at, &ours) in y.iter().enumerate() {
        let (token, col) = (at as u32 / n, at % n as usize);
        let added = adapter_of(token).map_or(0.0, |adapter| {
            let rank = RANKS[adapter] as usize;
            let b = &adapters.matrices[adapter][col * rank..][..rank];
            dot(&t[(token * STRIDE) as usize..][..rank], b).0
        });
        verdict.near(f64::from(ours), f64::from(before[at]) + added, 1e-4);
    }
    Ok(verdict.with(&outcome))
}
