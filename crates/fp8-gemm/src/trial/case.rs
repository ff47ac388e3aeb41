//! A product with made operands.

use half::bf16;
use rayon::prelude::*;
use xgraft_fp8_codec::E4m3;

use super::{Data, Machine, Run, Stream, Verdict, bf16s, bytes_of, f32s};
use crate::{
    BLOCK, Error, Shape,
    call::{Call, Operand, Output},
    emulator::{Adapter, Operands, element, product},
    schedule::Parts,
};

/// What operands hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Every finite code, scales around 0.6.
    Random,
    /// Zeros of both signs.
    Zeros,
    /// 448 everywhere: the sum that loses most without promotion.
    Largest,
    /// The smallest denormal code under scales whose product is a denormal F32.
    Smallest,
    /// Scales over thirty powers of ten.
    WideScales,
    /// A NaN in the second token and in the last row of W.
    Nans,
}

/// Operands of a product, with an adapter of a rank, 0 for none.
#[derive(Clone, Debug)]
pub struct Case {
    /// m, n and k.
    pub shape: Shape,
    rank: u32,
    /// Codes `[m, k]`.
    pub x: Vec<u8>,
    x_scales: Vec<f32>,
    /// Codes `[n, k]`.
    pub w: Vec<u8>,
    w_scales: Vec<f32>,
    t: Vec<bf16>,
    b: Vec<bf16>,
}

/// Above so many elements of Y a sample of them is compared.
const WHOLE: u64 = 1 << 20;
/// The error over the sum of magnitudes that another order of F32 sums may make.
const NEAR: f64 = 1e-5;
/// The same for sums of which the tensor core keeps 13 bits: four times what the emulator shows for terms of one sign.
const NEAR_IN_FP8: f64 = 4e-3;
/// How large the sample is.
const SAMPLE: u32 = 4096;

impl Case {
    /// Of a seed.
    pub fn new(shape: Shape, rank: u32, content: Content, seed: u64) -> Self {
        let Shape { m, n, k } = shape;
        let mut stream = Stream::new(seed);
        let (x_scales, w_scales) = (
            shape.k_blocks() * shape.scale_stride(),
            shape.k_blocks() * shape.n_blocks(),
        );
        let mut case = Self {
            shape,
            rank,
            x: stream.codes(m, k),
            x_scales: stream.scales(x_scales),
            w: stream.codes(n, k),
            w_scales: stream.scales(w_scales),
            t: stream.bf16(m as usize * rank as usize),
            b: stream.bf16(n as usize * rank as usize),
        };
        case.put(content, &mut stream);
        case
    }

    fn put(&mut self, content: Content, stream: &mut Stream) {
        let (mut code, mut scale) = (None, None);
        match content {
            Content::Random => {}
            Content::Zeros => code = Some(0),
            Content::Largest => (code, scale) = (Some(0x7e), Some(1.0)),
            Content::Smallest => (code, scale) = (Some(1), Some(1e-20)),
            Content::WideScales => {
                self.x_scales = stream.wide_scales(self.x_scales.len() as u32);
                self.w_scales = stream.wide_scales(self.w_scales.len() as u32);
            }
            Content::Nans => {
                let (second, k) = (1 % self.shape.m as usize, self.shape.k as usize);
                self.x[second * k + k / 2] = 0x7f;
                let last = self.w.len() - k;
                self.w[last] = 0xff;
            }
        }
        if let Some(code) = code {
            self.x.fill(code);
            self.w.fill(code);
            if content == Content::Zeros {
                self.w.fill(0x80);
            }
        }
        if let Some(scale) = scale {
            self.x_scales.fill(scale);
            self.w_scales.fill(scale);
        }
    }

    fn operands_of_product(&self) -> Operands<'_> {
        Operands {
            shape: self.shape,
            x: &self.x,
            x_scales: &self.x_scales,
            w: &self.w,
            w_scales: &self.w_scales,
        }
    }

    fn adapter(&self) -> Option<Adapter<'_>> {
        (self.rank > 0).then_some(Adapter {
            rank: self.rank,
            t: &self.t,
            b: &self.b,
        })
    }

    /// What the emulator says.
    pub fn expected(&self, parts: Parts) -> Vec<f32> {
        product(&self.operands_of_product(), self.adapter().as_ref(), parts)
    }

    /// What a call of a product takes, with nothing yet in its results.
    pub fn operands(&self, call: &Call, output: Output) -> Vec<(Operand, Data)> {
        let y = self.shape.m as usize * self.shape.n as usize * output.bytes();
        [
            (Operand::X, self.x.clone()),
            (Operand::XScales, bytes_of(&self.x_scales, f32::to_le_bytes)),
            (Operand::W, self.w.clone()),
            (Operand::WScales, bytes_of(&self.w_scales, f32::to_le_bytes)),
            (Operand::T, bytes_of(&self.t, bf16::to_le_bytes)),
            (Operand::B, bytes_of(&self.b, bf16::to_le_bytes)),
            (Operand::Y, vec![0xee; y]),
            (Operand::Parts, vec![0xff; call.parts as usize]),
            (Operand::Counters, vec![0; call.counters as usize * 4]),
        ]
        .map(|(name, bytes)| (name, Data::Bytes(bytes)))
        .into()
    }

    /// Runs a call of this product; bits must be the emulator's for these parts, or those rounded to BF16.
    ///
    /// # Errors
    /// What the machine says.
    pub fn judge(
        &self,
        machine: &impl Machine,
        call: &Call,
        output: Output,
        (parts, repeats): (Parts, u32),
    ) -> Result<Verdict, String> {
        let outcome = machine.outcome(&Run {
            call,
            operands: self.operands(call, output),
            extra: Vec::new(),
            repeats,
        })?;
        let y = numbers(&outcome.operands[&Operand::Y], output);
        let (operands, adapter) = (self.operands_of_product(), self.adapter());
        let mut verdict = Verdict::default();
        let Shape { m, n, .. } = self.shape;
        let rounded = |number: f32| match output {
            Output::F32 => number,
            Output::Bf16 => bf16::from_f32(number).to_f32(),
        };
        let places = if u64::from(m) * u64::from(n) <= WHOLE {
            (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).collect()
        } else {
            sample(m, n)
        };
        let known = places.par_iter().map(|&place| {
            let expected = element(&operands, adapter.as_ref(), parts, place);
            (rounded(expected), self.exact(place, output))
        });
        let known: Vec<_> = known.collect();
        for ((i, j), (expected, exact)) in places.into_iter().zip(known) {
            let ours = y[i as usize * n as usize + j as usize];
            verdict.bits(ours, expected);
            verdict.far_from(ours, exact);
        }
        Ok(verdict.with(&outcome))
    }

    /// An element in f64, and how far from it a sum of 13 bits, promoted, may be.
    fn exact(&self, (i, j): (u32, u32), output: Output) -> (f64, f64) {
        let (shape, k) = (self.shape, self.shape.k as usize);
        let value = |code: u8| f64::from(E4m3::from_bits(code).decode());
        let (x, w) = (
            &self.x[i as usize * k..][..k],
            &self.w[j as usize * k..][..k],
        );
        let (mut sum, mut size) = (0f64, 0f64);
        for (t, (x, w)) in x.iter().zip(w).enumerate() {
            let block = t as u32 / BLOCK;
            let scale = f64::from(self.x_scales[shape.x_scale(i, block)])
                * f64::from(self.w_scales[shape.w_scale(j, block)]);
            let term = value(*x) * value(*w) * scale;
            sum += term;
            size += term.abs();
        }
        let rank = self.rank as usize;
        let (t, b) = (
            &self.t[i as usize * rank..][..rank],
            &self.b[j as usize * rank..][..rank],
        );
        for (t, b) in t.iter().zip(b) {
            let term = t.to_f64() * b.to_f64();
            sum += term;
            size += term.abs();
        }
        let rounding = match output {
            Output::F32 => 0.0,
            Output::Bf16 => sum.abs() / 128.0,
        };
        (
            sum,
            size * NEAR_IN_FP8 + rounding + f64::from(f32::MIN_POSITIVE),
        )
    }

    /// Runs the readable kernel, whose sums are in another order.
    ///
    /// # Errors
    /// What the machine says.
    pub fn judge_plain(&self, machine: &impl Machine, call: &Call) -> Result<Verdict, String> {
        let x = |i: u32, t: u32| {
            let code = self.x[i as usize * self.shape.k as usize + t as usize];
            let scale = self.x_scales[self.shape.x_scale(i, t / BLOCK)];
            f64::from(E4m3::from_bits(code).decode()) * f64::from(scale)
        };
        self.judge_near(machine, call, self.operands(call, Output::F32), x)
    }

    /// Runs the kernel for BF16 tokens on these.
    ///
    /// # Errors
    /// What the machine says.
    pub fn judge_w8a16(&self, machine: &impl Machine, tokens: &[bf16]) -> Result<Verdict, String> {
        let call = Call::w8a16(self.shape, Output::F32).map_err(|error| error.to_string())?;
        let mut operands = self.operands(&call, Output::F32);
        operands.retain(|(operand, _)| *operand != Operand::X);
        let bytes = bytes_of(tokens, bf16::to_le_bytes);
        operands.push((Operand::X, Data::Bytes(bytes)));
        let x = |i: u32, t: u32| tokens[i as usize * self.shape.k as usize + t as usize].to_f64();
        self.judge_near(machine, &call, operands, x)
    }

    /// Against f64, in F32, within [`NEAR`].
    fn judge_near(
        &self,
        machine: &impl Machine,
        call: &Call,
        operands: Vec<(Operand, Data)>,
        x: impl Fn(u32, u32) -> f64,
    ) -> Result<Verdict, String> {
        let outcome = machine.outcome(&Run {
            call,
            operands,
            extra: Vec::new(),
            repeats: 0,
        })?;
        let y = f32s(&outcome.operands[&Operand::Y]);
        let mut verdict = Verdict::default();
        let Shape { m, n, k } = self.shape;
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let (mut sum, mut size) = (0f64, 0f64);
            for t in 0..k {
                let code = self.w[j as usize * k as usize + t as usize];
                let scale = self.w_scales[self.shape.w_scale(j, t / BLOCK)];
                let w = f64::from(E4m3::from_bits(code).decode()) * f64::from(scale);
                let term = x(i, t) * w;
                sum += term;
                size += term.abs();
            }
            let ours = y[i as usize * n as usize + j as usize];
            verdict.near(f64::from(ours), sum, size * NEAR);
        }
        Ok(verdict.with(&outcome))
    }
}

/// Y as numbers.
fn numbers(bytes: &[u8], output: Output) -> Vec<f32> {
    match output {
        Output::F32 => f32s(bytes),
        Output::Bf16 => bf16s(bytes).into_iter().map(bf16::to_f32).collect(),
    }
}

/// Corners, and places all over Y.
fn sample(m: u32, n: u32) -> Vec<(u32, u32)> {
    let mut stream = Stream::new(u64::from(m) << 32 | u64::from(n));
    let mut places = vec![(0, 0), (0, n - 1), (m - 1, 0), (m - 1, n - 1)];
    places.extend((0..SAMPLE).map(|_| (stream.below(m), stream.below(n))));
    places
}

/// A shape that was written down, not read.
///
/// # Panics
/// If a side is zero.
pub(super) fn shape((m, n, k): (u32, u32, u32)) -> Shape {
    Shape::new(m, n, k).unwrap_or_else(|error: Error| panic!("{error}"))
}
