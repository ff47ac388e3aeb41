//! FP8 block quantize and dequantize against a copy of the same bytes; then INT8 and INT4, packed as files hold them.
//!
//! `cargo run --release -p benches --bin codec -- --rows 5120 --cols 25600 --threads 1 --reps 7`
//!
//! The result is first checked against the scalar definition of `fp8-codec` on every element of some blocks, and the codes
//! of all implementations against each other. Then quantize, dequantize and copies of the same bytes run by turns, so that
//! a disturbance of the machine meets all of them. One JSON line per case.
#![allow(clippy::print_stdout, reason = "the benchmark's output is its lines")]

use std::{hint::black_box, num::NonZeroUsize, ops::Range};

use anyhow::{Context, ensure};
use benches::usage::{Times, peak_rss_mib, shortest};
use clap::Parser;
use half::bf16;
use serde::Serialize;
use xgraft_block_scale::{
    BlockShape, Extent, GroupRecipe, QuantizedRows, Recipe, ScaleDtype, WeightDtype,
    dequantize_rows, quantize_rows,
};
use xgraft_checkpoint::{GroupedParts, PackedMatrix, Packing, StoredGroups, pack_strips};
use xgraft_fp8_codec::{Codec, Format, Overflow};

/// Times FP8 block quantize and dequantize against a copy of the same bytes.
#[derive(Parser)]
struct Args {
    /// Rows of the matrix.
    #[arg(long, default_value_t = 5120)]
    rows: usize,
    /// Columns of the matrix.
    #[arg(long, default_value_t = 25600)]
    cols: usize,
    /// Threads; the copy uses as many.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Rounds of all cases.
    #[arg(long, default_value_t = 7)]
    reps: usize,
    /// Elements by which the matrices begin after a multiple of 64 bytes, which is where frameworks put tensors.
    #[arg(long, default_value_t = 0)]
    offset: usize,
}

/// One line of output.
#[derive(Serialize)]
struct Line {
    case: &'static str,
    /// The implementation that this processor chose.
    codec: &'static str,
    threads: usize,
    rows: usize,
    cols: usize,
    wall_s: Vec<f64>,
    cpu_s: Vec<f64>,
    /// Bytes of the matrix in BF16, over the shortest time, in 10^9 per second.
    gbps_bf16: f64,
    /// Bytes read and written, over the shortest time.
    gbps_rw: f64,
    /// `gbps_rw` over that of the copy of as many bytes: the shortest time of each.
    ratio_to_copy: f64,
    peak_rss_mib: f64,
}

/// Elements that begin a chosen number of elements after a multiple of 64 bytes.
struct Aligned<T> {
    memory: Vec<T>,
    first: usize,
    len: usize,
}

impl<T: Clone> Aligned<T> {
    fn new(len: usize, value: T, offset: usize) -> Self {
        let memory = vec![value; len + offset + 64];
        let first = memory.as_ptr().align_offset(64) + offset;
        Self { memory, first, len }
    }

    fn get(&self) -> &[T] {
        &self.memory[self.first..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.first..][..self.len]
    }
}

/// The matrix, its quantized forms, and what is copied for comparison.
struct Data {
    cols: usize,
    weights: Aligned<bf16>,
    codes: Aligned<u8>,
    scales: Vec<f32>,
    back: Aligned<bf16>,
    /// 1.5 bytes an element, so that a copy reads and writes as much as a conversion does.
    copy: (Aligned<u8>, Aligned<u8>),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads)
        .build()
        .context("starting threads")?
        .install(|| run(&args))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let mut data = Data::new(args);
    let hf = Recipe::f32(BlockShape::B128, ScaleDtype::F32);
    let ct = Recipe::compressed_tensors(BlockShape::B128);
    for recipe in [ct, hf] {
        data.quantize(&recipe)?;
        data.dequantize();
        data.check(&recipe)?;
    }
    let [mut quantize, mut quantize_ct, mut dequantize, mut copy] =
        std::array::from_fn(|_| Times::default());
    for _ in 0..args.reps {
        copy.measure(|| data.copy(args.threads));
        quantize.measure(|| data.quantize(&hf))?;
        dequantize.measure(|| data.dequantize());
        quantize_ct.measure(|| data.quantize(&ct))?;
    }
    let roof = shortest(&copy.wall);
    for (case, times) in [
        ("copy", copy),
        ("fp8_block_quantize", quantize),
        ("fp8_block_quantize_compressed_tensors", quantize_ct),
        ("fp8_block_dequantize", dequantize),
    ] {
        let line = line(case, times, roof, args);
        println!("{}", serde_json::to_string(&line)?);
    }
    let shape = (data.rows(), data.cols);
    for (bits, quantize, dequantize) in [
        (8, "int8_quantize", "int8_dequantize"),
        (4, "int4_quantize", "int4_dequantize"),
    ] {
        let [first, second] = integers(
            data.weights.get(),
            data.back.get_mut(),
            shape,
            bits,
            args.reps,
        )?;
        for (case, times) in [(quantize, first), (dequantize, second)] {
            let line = line(case, times, roof, args);
            println!("{}", serde_json::to_string(&line)?);
        }
    }
    Ok(())
}

/// BF16 to integers as the bytes of a file, in memory that is new each time, and back to BF16, as `xgraft dequantize` does it:
/// into memory that is there, because it writes one weight after the other from the same.
fn integers(
    weights: &[bf16],
    back: &mut [bf16],
    (rows, cols): (usize, usize),
    bits: u8,
    reps: usize,
) -> anyhow::Result<[Times; 2]> {
    let group = match bits {
        8 => Extent::All,
        _ => Extent::Of(NonZeroUsize::new(128).context("a group")?),
    };
    let recipe = GroupRecipe::compressed_tensors(bits, group, true, WeightDtype::Bf16);
    let stored = StoredGroups {
        packing: if bits == 8 {
            Packing::Bytes
        } else {
            Packing::Rows
        },
        bits,
        group,
        scale: ScaleDtype::Bf16,
        parts: GroupedParts {
            scales: "weight_scale".to_owned(),
            zeros: None,
            groups_of: None,
            shape: None,
            levels: None,
            nested: None,
        },
        decoded: None,
    };
    let strip = |part: Range<usize>| {
        let weights = &weights[part.start * cols..part.end * cols];
        let strip = recipe.quantize(weights, (part.len(), cols), 1.0);
        strip.map(|strip| (strip, ()))
    };
    let quantize = || pack_strips(&stored, (rows, cols), strip);
    let (tensors, _) = quantize()?;
    let packed = PackedMatrix::new(&stored, (rows, cols), tensors)?;
    let mut times: [Times; 2] = Default::default();
    for _ in 0..reps {
        times[0].measure(quantize)?;
        times[1].measure(|| packed.decode_bf16(0..rows, back));
    }
    let (mut error2, mut norm2) = (0.0, 0.0);
    for (w, b) in weights.iter().zip(&*back) {
        error2 += (f64::from(w.to_f32()) - f64::from(b.to_f32())).powi(2);
        norm2 += f64::from(w.to_f32()).powi(2);
    }
    let error = (error2 / norm2).sqrt();
    ensure!(
        error < if bits == 8 { 0.02 } else { 0.13 },
        "round trip of {bits} bits: {error}"
    );
    Ok(times)
}

fn line(case: &'static str, times: Times, roof: f64, args: &Args) -> Line {
    let elements = (args.rows * args.cols) as f64;
    let shortest = shortest(&times.wall);
    Line {
        case,
        codec: Codec::best().name(),
        threads: args.threads,
        rows: args.rows,
        cols: args.cols,
        gbps_bf16: 2e-9 * elements / shortest,
        gbps_rw: 3e-9 * elements / shortest,
        ratio_to_copy: roof / shortest,
        wall_s: times.wall,
        cpu_s: times.cpu,
        peak_rss_mib: peak_rss_mib(),
    }
}

impl Data {
    fn new(args: &Args) -> Self {
        let (len, offset) = (args.rows * args.cols, args.offset);
        let mut weights = Aligned::new(len, bf16::ZERO, offset);
        fill_with_normal(weights.get_mut());
        // A copy of n bytes reads n and writes n, together 2 n; a conversion reads and writes 3 bytes an element.
        let copied = len * 3 / 2;
        Self {
            cols: args.cols,
            weights,
            codes: Aligned::new(len, 1, offset),
            scales: vec![1.0; BlockShape::B128.count(args.rows, args.cols)],
            back: Aligned::new(len, bf16::ONE, offset),
            copy: (
                Aligned::new(copied, 1, offset),
                Aligned::new(copied, 2, offset),
            ),
        }
    }

    fn rows(&self) -> usize {
        self.weights.len / self.cols
    }

    fn quantize(&mut self, recipe: &Recipe) -> anyhow::Result<()> {
        let (weights, codes) = (self.weights.get(), self.codes.get_mut());
        quantize_rows(weights, self.cols, recipe, codes, &mut self.scales)?;
        Ok(())
    }

    fn dequantize(&mut self) {
        let rows = QuantizedRows {
            shape: (self.rows(), self.cols),
            first_row: 0,
            format: Format::E4m3,
            block: BlockShape::B128,
            codes: self.codes.get(),
            scales: &self.scales,
        };
        dequantize_rows(rows, self.back.get_mut());
    }

    fn copy(&mut self, threads: usize) {
        let part = self.copy.0.len.div_ceil(threads);
        let from = self.copy.0.get().chunks(part);
        let parts = from.zip(self.copy.1.get_mut().chunks_mut(part));
        rayon::scope(|scope| {
            for (from, to) in parts {
                scope.spawn(move |_| black_box(to).copy_from_slice(black_box(from)));
            }
        });
    }

    /// Compares every element of every seventh block with the scalar definition.
    fn check(&self, recipe: &Recipe) -> anyhow::Result<()> {
        let shape = (self.rows(), self.cols);
        let (weights, codes, back) = (self.weights.get(), self.codes.get(), self.back.get());
        let grid_cols = BlockShape::B128.grid(shape.0, shape.1).1;
        for (index, &scale) in self.scales.iter().enumerate().step_by(7) {
            let (i, j) = (index / grid_cols, index % grid_cols);
            let rows = i * 128..shape.0.min((i + 1) * 128);
            let cols = j * 128..shape.1.min((j + 1) * 128);
            let elements: Vec<usize> = rows
                .flat_map(|row| cols.clone().map(move |col| row * shape.1 + col))
                .collect();
            let magnitudes = elements.iter().map(|&at| weights[at].to_f32().abs());
            let amax = magnitudes.fold(0.0, f32::max);
            ensure!(scale == recipe.scale.round(amax / 448.0), "scale {index}");
            for at in elements {
                let quotient = weights[at].to_f32() / scale;
                let quotient = match recipe.scale {
                    ScaleDtype::Bf16 => bf16::from_f32(quotient).to_f32(),
                    _ => quotient,
                };
                let code = Format::E4m3.encode(quotient, Overflow::Saturate);
                ensure!(code == codes[at], "code {at}");
                let value = bf16::from_f32(Format::E4m3.decode(code) * scale);
                ensure!(value == back[at], "value {at}");
            }
        }
        Ok(())
    }
}

/// Nearly normal numbers of standard deviation 0.02: sums of twelve uniform numbers of a counter-based generator.
fn fill_with_normal(weights: &mut [bf16]) {
    let uniform = |i: u64| {
        let mut z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let four = |bits: u64| -> f32 {
        let parts = (0..4).map(|i| (bits >> (16 * i) & 0xffff) as f32 / 65536.0);
        parts.sum()
    };
    for (weight, i) in weights.iter_mut().zip((0..).step_by(3)) {
        let sum: f32 = (i..i + 3).map(|i| four(uniform(i))).sum();
        *weight = bf16::from_f32((sum - 6.0) * 0.02);
    }
}
