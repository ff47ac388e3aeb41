//! The product with a thin panel, and the truncated SVD, of a weight delta that is never materialised.
//!
//! `cargo run --release -p benches --bin extract_kernels -- svd --rows 5120 --cols 5120 --rank 256 --threads 1`
//!
//! `gemm` times `D P` and `Dᵀ Q` with a panel of `--panel` columns, and faer's product of the same matrices in f32.
//! `svd` times the truncated SVD; with `--exact` it adds the exact optimum, from eigenvalues in f64, and the excess over it.
//! The delta is that of `peers/extract/make_data.py`, either from its file (`--matrix`) or made here by the same recipe.
//! Every result is checked before anything is timed. One JSON line per case, and one process per case, so that the
//! peak memory is its own.
#![allow(clippy::print_stdout, reason = "the benchmark's output is its lines")]

use std::{fs::File, hint::black_box, io::Read, ops::ControlFlow, path::PathBuf};

use anyhow::{Context, ensure};
use benches::usage::{Times, peak_rss_mib, shortest};
use clap::{Parser, ValueEnum};
use half::bf16;
use serde::Serialize;
use serde_json::Value;
use xgraft_cpu_gemm::{Bf16Diff, F32, Side, Source, gram_f64, matmul, matmul_tn, reference};
use xgraft_low_rank::{Config, Excess, Factors, Stop, exact_singular_values, truncated_svd};

/// Times the kernels of `xgraft extract`.
#[derive(Parser)]
struct Args {
    /// What to time.
    #[arg(value_enum, default_value_t = Case::Svd)]
    case: Case,
    /// Rows of the matrix.
    #[arg(long, default_value_t = 5120)]
    rows: usize,
    /// Columns of the matrix.
    #[arg(long, default_value_t = 5120)]
    cols: usize,
    /// Singular triplets.
    #[arg(long, default_value_t = 256)]
    rank: usize,
    /// Columns of the panel of `gemm`.
    #[arg(long, default_value_t = 128)]
    panel: usize,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Repetitions.
    #[arg(long, default_value_t = 5)]
    reps: usize,
    /// A safetensors file with BF16 `base` and `tuned`, instead of made data.
    #[arg(long)]
    matrix: Option<PathBuf>,
    /// Computes the exact optimum too, after everything else.
    #[arg(long)]
    exact: bool,
    /// Columns of a Krylov block, instead of the crate's choice.
    #[arg(long)]
    block: Option<usize>,
    /// Blocks before the first look at convergence, instead of the crate's choice.
    #[arg(long)]
    depth: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Products with a thin panel.
    Gemm,
    /// The truncated SVD.
    Svd,
}

/// Base and fine-tuned weights.
struct Pair {
    rows: usize,
    cols: usize,
    base: Vec<bf16>,
    tuned: Vec<bf16>,
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
    let pair = match &args.matrix {
        Some(file) => Pair::read(file)?,
        None => Pair::make(args.rows, args.cols),
    };
    let delta = Bf16Diff::new(&pair.tuned, &pair.base, pair.rows, pair.cols);
    match args.case {
        Case::Gemm => gemm(args, &delta),
        Case::Svd => svd(args, &delta),
    }
}

// ---------------------------------------------------------------------------------------------------------------- gemm

/// A line about a product.
#[derive(Serialize)]
struct GemmLine {
    case: &'static str,
    threads: usize,
    rows: usize,
    cols: usize,
    panel: usize,
    wall_s: Vec<f64>,
    cpu_s: Vec<f64>,
    /// Of the shortest time, in 10^9 floating-point operations per second.
    gflops_wall: f64,
    gflops_cpu: f64,
    peak_rss_mib: f64,
}

fn gemm(args: &Args, delta: &Bf16Diff<'_>) -> anyhow::Result<()> {
    let (rows, cols, n) = (delta.rows(), delta.cols(), args.panel);
    let (p, q) = (normal(cols * n, 3), normal(rows * n, 4));
    let (mut plain, mut transposed) = (vec![0.0; rows * n], vec![0.0; cols * n]);
    matmul(delta, &p, n, &mut plain);
    matmul_tn(delta, &q, n, &mut transposed);
    check_products(delta, (&p, &plain), (&q, &transposed), n)?;
    let dense = dense(delta);
    let dense = faer::MatRef::from_row_major_slice(&dense, rows, cols);
    let panel = faer::MatRef::from_row_major_slice(&p, cols, n);
    let mut theirs = faer::Mat::<f32>::zeros(rows, n);
    let par = if args.threads == 1 {
        faer::Par::Seq
    } else {
        faer::Par::rayon(args.threads)
    };
    let mut times: [Times; 3] = Default::default();
    for _ in 0..args.reps {
        times[0].measure(|| matmul(delta, &p, n, black_box(&mut plain)));
        times[1].measure(|| matmul_tn(delta, &q, n, black_box(&mut transposed)));
        times[2].measure(|| {
            faer::linalg::matmul::matmul(
                theirs.as_mut(),
                faer::Accum::Replace,
                black_box(dense),
                panel,
                1.0,
                par,
            );
        });
    }
    let difference = plain
        .iter()
        .enumerate()
        .map(|(at, x)| (x - theirs[(at / n, at % n)]).abs());
    ensure!(
        difference.fold(0.0, f32::max) < 1e-3,
        "faer's product differs"
    );
    for (case, times) in ["matmul", "matmul_tn", "faer_matmul"]
        .into_iter()
        .zip(times)
    {
        let operations = 2e-9 * (rows * cols * n) as f64;
        print(&GemmLine {
            case,
            threads: args.threads,
            rows,
            cols,
            panel: n,
            gflops_wall: operations / shortest(&times.wall),
            gflops_cpu: operations / shortest(&times.cpu),
            wall_s: times.wall,
            cpu_s: times.cpu,
            peak_rss_mib: peak_rss_mib(),
        })?;
    }
    Ok(())
}

/// Compares some rows with the reference, bit for bit.
fn check_products(
    delta: &Bf16Diff<'_>,
    (p, plain): (&[f32], &[f32]),
    (q, transposed): (&[f32], &[f32]),
    n: usize,
) -> anyhow::Result<()> {
    let (rows, cols) = (delta.rows(), delta.cols());
    for row in (0..rows).step_by(rows / 7 + 1) {
        let mut line = vec![0.0; cols];
        delta.pack(row..row + 1, 0..cols, &mut line, cols);
        let mut expected = vec![0.0; n];
        reference::matmul(&F32::new(&line, 1, cols), p, n, &mut expected);
        ensure!(plain[row * n..][..n] == expected, "row {row} of D P");
    }
    for col in (0..cols).step_by(cols / 7 + 1) {
        let mut line = vec![0.0; rows];
        delta.pack(0..rows, col..col + 1, &mut line, 1);
        let mut expected = vec![0.0; n];
        reference::matmul_tn(&F32::new(&line, rows, 1), q, n, &mut expected);
        ensure!(
            transposed[col * n..][..n] == expected,
            "row {col} of the transposed product"
        );
    }
    Ok(())
}

// ----------------------------------------------------------------------------------------------------------------- svd

/// A line about a truncated SVD.
#[derive(Serialize)]
struct SvdLine {
    case: &'static str,
    threads: usize,
    rows: usize,
    cols: usize,
    rank: usize,
    wall_s: Vec<f64>,
    cpu_s: Vec<f64>,
    basis: usize,
    products: usize,
    /// `‖D - D_r‖ / ‖D‖`.
    residual: f64,
    /// That of the best approximation of the rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    optimum: Option<f64>,
    /// `residual / optimum - 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    excess: Option<f64>,
    /// What the crate says about the excess, and whether it is a bound.
    stated: f64,
    certified: bool,
    peak_rss_mib: f64,
}

fn svd(args: &Args, delta: &Bf16Diff<'_>) -> anyhow::Result<()> {
    let config = Config {
        stop: Stop::Rank(args.rank),
        block: args.block,
        min_depth: args.depth,
        ..Config::default()
    };
    let factorize = || truncated_svd(delta, &config, &|_| ControlFlow::Continue(()));
    let found = factorize()?;
    check_factors(delta, &found)?;
    let rank = found.rank();
    let said = found.optimum(rank);
    let (norm2, residual2) = (found.norm2, found.residual2(rank));
    let (basis, products) = (found.basis, found.products);
    drop(found);
    let mut times = Times::default();
    for _ in 0..args.reps {
        times.measure(factorize)?;
    }
    let peak_rss_mib = peak_rss_mib();
    let optimum2 = if args.exact {
        let values = exact_singular_values(delta)?;
        Some(values.iter().skip(rank).map(|s| s * s).sum::<f64>())
    } else {
        None
    };
    print(&SvdLine {
        case: "truncated_svd",
        threads: args.threads,
        rows: delta.rows(),
        cols: delta.cols(),
        rank,
        wall_s: times.wall,
        cpu_s: times.cpu,
        basis,
        products,
        residual: (residual2 / norm2).sqrt(),
        optimum: optimum2.map(|optimum2| (optimum2 / norm2).sqrt()),
        excess: optimum2.map(|optimum2| (residual2 / optimum2).sqrt() - 1.0),
        stated: said.value(),
        certified: matches!(said, Excess::Certified { .. }),
        peak_rss_mib,
    })
}

/// Forms the difference of matrix and factors, and compares its norm with what is said of it.
fn check_factors(delta: &Bf16Diff<'_>, found: &Factors) -> anyhow::Result<()> {
    let (said, measured) = (found.residual2(found.rank()), found.measure(delta));
    ensure!(
        (said - measured).abs() <= 3e-7 * found.norm2,
        "the factors leave {measured}, not {said}"
    );
    for (side, name) in [(&found.u, "left"), (&found.v, "right")] {
        let r = found.rank();
        let gram = gram_f64(&F32::new(side, side.len() / r, r), Side::Cols);
        let identity = |at: usize| if at / r == at % r { 1.0 } else { 0.0 };
        let off = gram
            .iter()
            .enumerate()
            .map(|(at, x)| (x - identity(at)).abs());
        let off = off.fold(0.0, f64::max);
        ensure!(
            off < 2e-5,
            "the {name} vectors are off orthonormal by {off}"
        );
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------- data

impl Pair {
    /// The recipe of `make_data.py` with other random numbers.
    fn make(rows: usize, cols: usize) -> Self {
        const ROWS: usize = 256;
        let width = 512.min(rows).min(cols);
        let mut base = vec![bf16::ZERO; rows * cols];
        for (seed, some) in (1000..).zip(base.chunks_mut(ROWS * cols)) {
            let numbers = normal(some.len(), seed);
            for (to, x) in some.iter_mut().zip(numbers) {
                *to = bf16::from_f32(0.02 * x);
            }
        }
        let left = normal(rows * width, 1);
        let mut right = normal(cols * width, 2);
        for row in right.chunks_exact_mut(width) {
            for (k, x) in (1..).zip(row) {
                *x *= (k as f32).powf(-0.8);
            }
        }
        let gain = 0.02 * norm(&base) / product_norm(&left, &right, width);
        let right: Vec<f32> = (0..width)
            .flat_map(|k| right.iter().skip(k).step_by(width).map(|x| x * gain as f32))
            .collect();
        let mut tuned = Vec::with_capacity(rows * cols);
        let mut delta = vec![0.0; ROWS.min(rows) * cols];
        for (left, base) in left.chunks(ROWS * width).zip(base.chunks(ROWS * cols)) {
            let delta = &mut delta[..base.len()];
            matmul(
                &F32::new(left, left.len() / width, width),
                &right,
                cols,
                delta,
            );
            tuned.extend(
                base.iter()
                    .zip(delta)
                    .map(|(b, d)| bf16::from_f32(b.to_f32() + *d)),
            );
        }
        Self {
            rows,
            cols,
            base,
            tuned,
        }
    }

    /// Reads both tensors of a safetensors file.
    fn read(file: &PathBuf) -> anyhow::Result<Self> {
        let mut reader = File::open(file).with_context(|| format!("opening {}", file.display()))?;
        let mut length = [0; 8];
        reader.read_exact(&mut length)?;
        let mut header = vec![0; usize::try_from(u64::from_le_bytes(length))?];
        reader.read_exact(&mut header)?;
        let header: Value = serde_json::from_slice(&header)?;
        let size = |at: usize| {
            header["base"]["shape"][at]
                .as_u64()
                .context("a shape of two sides")
        };
        let (rows, cols) = (usize::try_from(size(0)?)?, usize::try_from(size(1)?)?);
        let mut read = || {
            let mut tensor = Vec::with_capacity(rows * cols);
            let mut row = vec![0; 2 * cols];
            for _ in 0..rows {
                reader.read_exact(&mut row)?;
                tensor.extend(
                    row.chunks_exact(2)
                        .map(|b| bf16::from_le_bytes([b[0], b[1]])),
                );
            }
            anyhow::Ok(tensor)
        };
        // The tensors follow each other without gaps.
        let base_first = header["base"]["data_offsets"][0] == 0;
        let (first, second) = (read()?, read()?);
        let (base, tuned) = if base_first {
            (first, second)
        } else {
            (second, first)
        };
        Ok(Self {
            rows,
            cols,
            base,
            tuned,
        })
    }
}

fn norm(values: &[bf16]) -> f64 {
    values
        .iter()
        .map(|x| f64::from(x.to_f32()).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// `‖L Rᵀ‖_F` from the Gram matrices: the square is the trace of their product.
fn product_norm(left: &[f32], right: &[f32], width: usize) -> f64 {
    let gram = |x: &[f32]| gram_f64(&F32::new(x, x.len() / width, width), Side::Cols);
    gram(left)
        .iter()
        .zip(gram(right))
        .map(|(l, r)| l * r)
        .sum::<f64>()
        .sqrt()
}

/// The whole matrix in f32, as other people's products need it.
fn dense(delta: &Bf16Diff<'_>) -> Vec<f32> {
    let mut dense = vec![0.0; delta.rows() * delta.cols()];
    delta.pack(0..delta.rows(), 0..delta.cols(), &mut dense, delta.cols());
    dense
}

/// Independent normal numbers, by Box and Muller from a counter.
fn normal(len: usize, seed: u64) -> Vec<f32> {
    let unit = |at: u64| {
        let mut z = (seed << 40 | at)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 24) as f32
    };
    let pair = |at: u64| {
        let radius = (-2.0 * (1.0 - unit(2 * at)).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * unit(2 * at + 1)).sin_cos();
        [radius * cos, radius * sin]
    };
    (0..len.div_ceil(2) as u64)
        .flat_map(pair)
        .take(len)
        .collect()
}

// ------------------------------------------------------------------------------------------------------------ measuring

fn print(line: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}
