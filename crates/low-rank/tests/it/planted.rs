//! Matrices with known singular values.

use std::ops::ControlFlow;

use xgraft_cpu_gemm::F32;
use xgraft_low_rank::{Config, Factors, Progress, Stop, truncated_svd};

/// A matrix in memory.
pub(crate) struct Planted {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) data: Vec<f32>,
}

impl Planted {
    pub(crate) fn source(&self) -> F32<'_> {
        F32::new(&self.data, self.rows, self.cols)
    }

    /// `U diag(spectrum) Vᵀ` with random orthonormal `U` and `V`.
    pub(crate) fn new(rows: usize, cols: usize, spectrum: &[f64], seed: u64) -> Self {
        let (u, v) = (
            orthonormal(rows, spectrum.len(), seed),
            orthonormal(cols, spectrum.len(), seed + 1),
        );
        let mut data = vec![0.0_f64; rows * cols];
        for ((u, v), s) in u.iter().zip(&v).zip(spectrum) {
            for (row, u) in data.chunks_exact_mut(cols).zip(u) {
                row.iter_mut().zip(v).for_each(|(x, v)| *x += s * u * v);
            }
        }
        Self {
            rows,
            cols,
            data: data.into_iter().map(|x| x as f32).collect(),
        }
    }

    pub(crate) fn svd(&self, config: &Config) -> Factors {
        truncated_svd(&self.source(), config, &go_on).unwrap()
    }
}

pub(crate) fn rank(rank: usize) -> Config {
    Config {
        stop: Stop::Rank(rank),
        ..Config::default()
    }
}

pub(crate) fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Uniform numbers between -1 and 1 from a counter.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// `count` orthonormal vectors of length `n`, by Gram-Schmidt done twice.
pub(crate) fn orthonormal(n: usize, count: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for k in 0..count {
        let mut x = noise(n, seed * 7919 + k as u64 + 1);
        for _ in 0..2 {
            for b in &basis {
                let inside = dot(b, &x);
                x.iter_mut().zip(b).for_each(|(x, b)| *x -= inside * b);
            }
        }
        let length = dot(&x, &x).sqrt();
        basis.push(x.into_iter().map(|x| x / length).collect());
    }
    basis
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `k^-power` for `k` from 1.
pub(crate) fn power_law(count: usize, power: f64) -> Vec<f64> {
    (1..=count).map(|k| (k as f64).powf(-power)).collect()
}

/// The spectra that the promises are held against, each with a name; all for a rank of 16.
pub(crate) fn spectra(n: usize) -> Vec<(&'static str, Vec<f64>)> {
    let flat = vec![1.0; n];
    let clustered = (0..n)
        .map(|k| [1.0, 0.5, 0.1, 0.02][(k / 8).min(3)])
        .collect();
    let gap = (0..n)
        .map(|k| if k < 16 { 1.0 - k as f64 / 100.0 } else { 1e-3 })
        .collect();
    let gap_and_tail = (0..n)
        .map(|k| {
            if k < 16 {
                1.0
            } else {
                0.2 - 0.1 * k as f64 / n as f64
            }
        })
        .collect();
    let deficient = power_law(12, 0.5);
    let rank_40 = power_law(40, 0.3);
    let geometric = (0..n).map(|k| 0.7_f64.powi(k as i32)).collect();
    vec![
        ("flat", flat),
        ("clustered", clustered),
        ("gap at the rank", gap),
        ("gap above a tail", gap_and_tail),
        ("rank below what is asked", deficient),
        ("rank above what is asked", rank_40),
        ("geometric", geometric),
        ("k^-0.8", power_law(n, 0.8)),
        ("k^-0.5", power_law(n, 0.5)),
        ("k^-0.3", power_law(n, 0.3)),
    ]
}
