//! The choice of scales: the one that spans a block, or the best of several smaller ones.
//!
//! A candidate shrinks the spanning scale by a factor. Each block takes the factor that serves it best, so the result is
//! never worse by the measure searched for than plain amax, whose factor 1 is among them.

use serde::{Deserialize, Serialize};
use xgraft_cpu_gemm::Source;

/// How scales are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// The scale spans the block: amax over the largest value.
    Amax,
    /// The least squared error of the block's weights.
    Mse,
    /// The largest cosine of the delta that is left, dequantized − base, and the delta that was, weight − base; needs no
    /// data but the base.
    ///
    /// **Source** Delta-Aware Quantization (arXiv 2603.22324), with the cosine as the measure and a choice for each block.
    Delta,
}

impl Search {
    /// Its name in configurations and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Search::Amax => "amax",
            Search::Mse => "mse",
            Search::Delta => "delta",
        }
    }

    /// The factors that are tried.
    pub(crate) fn factors(self) -> Vec<f32> {
        match self {
            Search::Amax => vec![1.0],
            // As far down as the grid of compressed-tensors' observer goes.
            Search::Mse | Search::Delta => (0..=20_u8).map(|i| 1.0 - 0.01 * f32::from(i)).collect(),
        }
    }
}

/// The delta of a fine-tune before and after its weights were quantized: sums over a part of a weight, a weight, or all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct DeltaSums {
    /// ⟨dequantized − base, weight − base⟩.
    pub dot: f64,
    /// ‖weight − base‖².
    pub before2: f64,
    /// ‖dequantized − base‖².
    pub after2: f64,
    /// Elements of weight − base that are not zero.
    pub changed: u64,
    /// Those whose sign is kept.
    pub same_sign: u64,
}

impl DeltaSums {
    pub(crate) fn add(&mut self, weight: f32, value: f32, base: f32) {
        let (before, after) = (
            f64::from(weight) - f64::from(base),
            f64::from(value) - f64::from(base),
        );
        self.dot += before * after;
        self.before2 += before * before;
        self.after2 += after * after;
        if before != 0.0 {
            self.changed += 1;
            self.same_sign += u64::from(before * after > 0.0);
        }
    }

    /// Takes in the sums of another part.
    pub fn merge(&mut self, other: Self) {
        self.dot += other.dot;
        self.before2 += other.before2;
        self.after2 += other.after2;
        self.changed += other.changed;
        self.same_sign += other.same_sign;
    }

    /// Cosine of the two; 1 where both are zero, 0 where one is.
    #[must_use]
    pub fn cosine(&self) -> f64 {
        let norms = (self.before2 * self.after2).sqrt();
        if norms > 0.0 {
            self.dot / norms
        } else {
            f64::from(u8::from(self.before2 == self.after2))
        }
    }

    /// Share of the changed elements whose change keeps its sign.
    #[must_use]
    pub fn sign_agreement(&self) -> f64 {
        if self.changed == 0 {
            return 1.0;
        }
        self.same_sign as f64 / self.changed as f64
    }
}

/// How well a block is served: larger is better.
pub(crate) fn merit(search: Search, weights: &[f32], values: &[f32], base: Option<&[f32]>) -> f64 {
    let error2 = || {
        let squares = weights
            .iter()
            .zip(values)
            .map(|(w, v)| f64::from(w - v).powi(2));
        squares.sum::<f64>()
    };
    match (search, base) {
        (Search::Delta, Some(base)) => {
            let mut sums = DeltaSums::default();
            for ((w, v), b) in weights.iter().zip(values).zip(base) {
                sums.add(*w, *v, *b);
            }
            sums.cosine()
        }
        _ => -error2(),
    }
}

/// Some rows of a source as f32.
pub(crate) fn rows_of<S: Source + ?Sized>(source: &S, rows: std::ops::Range<usize>) -> Vec<f32> {
    let cols = source.cols();
    let mut values = vec![0.0; rows.len() * cols];
    source.pack(rows, 0..cols, &mut values, cols);
    values
}
