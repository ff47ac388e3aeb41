//! The sums of a module, recomputed strip by strip with a product of its own.

use rayon::prelude::*;
use xgraft_checkpoint::{Adapter, LoraKind, WeightMatrix};
use xgraft_cpu_gemm::Source;

use super::direction::Direction;
use super::report::AgainstOriginal;
use crate::error::{Error, Result};
use crate::plan::Pair;

/// Rows per strip. Sums are taken strip by strip in this fixed order, whatever the thread count.
const STRIP: usize = 64;

/// sBA as a left factor [rows, r] times a right factor [r, cols].
pub(super) struct LowRank {
    pub(super) left: Vec<f32>,
    pub(super) right: Vec<f32>,
    pub(super) rank: usize,
    pub(super) scale: f64,
}

pub(super) fn load_pair(adapter: &Adapter, pair: &Pair<'_>) -> Result<LowRank> {
    let entry = adapter
        .module(&pair.module)
        .ok_or_else(|| Error::UnknownModule {
            module: pair.module.clone(),
            base: adapter.dir().to_owned(),
        })?;
    let (a, b) = (adapter.load_a(entry)?, adapter.load_b(entry)?);
    let (left, right) = if entry.kind == LoraKind::Embedding {
        (a.transposed(), b.transposed()) // ΔW [vocab, hidden] = (B A)ᵀ = Aᵀ Bᵀ
    } else {
        (b, a)
    };
    let expected = [pair.base.shape[0], pair.base.shape[1]];
    if [left.rows, right.cols] != expected {
        return Err(Error::AdapterShape {
            module: pair.module.clone(),
            expected,
            found: [left.rows, right.cols],
        });
    }
    if !left.data.iter().chain(&right.data).all(|x| x.is_finite()) {
        return Err(Error::NotFinite {
            tensor: format!("{} (adapter)", pair.module),
        });
    }
    Ok(LowRank {
        rank: left.cols,
        left: left.data,
        right: right.data,
        scale: entry.scale,
    })
}

/// Sums over a module, all in f64.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
    /// ‖W_tuned‖²
    pub(super) tuned2: f64,
    /// ‖D‖², D = W_tuned − W_base
    pub(super) delta2: f64,
    /// ‖D − L‖², L = sBA
    pub(super) rest2: f64,
    /// ‖L‖²
    pub(super) adapter2: f64,
    /// ⟨D, L⟩
    pub(super) inner: f64,
    /// ‖W_base − W_original‖²
    pub(super) noise2: f64,
    /// ‖F‖², F = W_tuned − W_original
    pub(super) tune2: f64,
    /// ‖F − L‖²
    pub(super) tune_rest2: f64,
    /// ⟨F, L⟩
    pub(super) tune_inner: f64,
    /// Elements of the module.
    pub(super) elements: f64,
    /// ‖S‖², S = W_base + L − W_original
    pub(super) served2: f64,
    /// ⟨F, S⟩
    pub(super) served: f64,
    /// Elements of F that are not zero.
    pub(super) changed: f64,
    /// Those of them that have the sign of S.
    pub(super) same_sign: f64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.tuned2 += other.tuned2;
        self.delta2 += other.delta2;
        self.rest2 += other.rest2;
        self.adapter2 += other.adapter2;
        self.inner += other.inner;
        self.noise2 += other.noise2;
        self.tune2 += other.tune2;
        self.tune_rest2 += other.tune_rest2;
        self.tune_inner += other.tune_inner;
        self.elements += other.elements;
        self.served2 += other.served2;
        self.served += other.served;
        self.changed += other.changed;
        self.same_sign += other.same_sign;
    }

    /// How L lies to D.
    pub(super) fn along_delta(&self) -> Direction {
        Direction::new(self.inner, self.delta2, self.adapter2, self.elements)
    }

    /// How L lies to F.
    pub(super) fn along_fine_tune(&self) -> Direction {
        Direction::new(self.tune_inner, self.tune2, self.adapter2, self.elements)
    }

    pub(super) fn against_original(&self) -> AgainstOriginal {
        let norms = (self.tune2 * self.served2).sqrt();
        AgainstOriginal {
            noise_ratio: ratio(self.noise2, self.tune2),
            adapter: self.along_fine_tune(),
            delta_cosine: if norms > 0.0 {
                self.served / norms
            } else {
                0.0
            },
            sign_agreement: if self.changed > 0.0 {
                self.same_sign / self.changed
            } else {
                1.0
            },
        }
    }
}

pub(super) fn measure(
    tuned: &WeightMatrix,
    base: &WeightMatrix,
    original: Option<&WeightMatrix>,
    low_rank: &LowRank,
) -> Sums {
    let rows = tuned.rows().min(base.rows());
    let cols = base.cols();
    let strips: Vec<Sums> = (0..rows.div_ceil(STRIP))
        .into_par_iter()
        .map(|strip| {
            let range = strip * STRIP..rows.min((strip + 1) * STRIP);
            let n = range.len() * cols;
            let (mut t, mut b, mut l) = (vec![0f32; n], vec![0f32; n], vec![0f32; n]);
            tuned.pack(range.clone(), 0..cols, &mut t, cols);
            base.pack(range.clone(), 0..cols, &mut b, cols);
            multiply(low_rank, range, cols, &mut l);
            let mut sums = Sums {
                elements: n as f64,
                ..Sums::default()
            };
            for ((&t, &b), &l) in t.iter().zip(&b).zip(&l) {
                let (t, b) = (f64::from(t), f64::from(b));
                let l = f64::from(l) * low_rank.scale;
                let d = t - b;
                sums.tuned2 += t * t;
                sums.delta2 += d * d;
                sums.rest2 += (d - l) * (d - l);
                sums.adapter2 += l * l;
                sums.inner += d * l;
            }
            if let Some(original) = original {
                let mut o = vec![0f32; n];
                original.pack(
                    strip * STRIP..rows.min((strip + 1) * STRIP),
                    0..cols,
                    &mut o,
                    cols,
                );
                for (((&t, &b), &l), &o) in t.iter().zip(&b).zip(&l).zip(&o) {
                    let o = f64::from(o);
                    let noise = f64::from(b) - o;
                    let tune = f64::from(t) - o;
                    let l = f64::from(l) * low_rank.scale;
                    let served = noise + l;
                    sums.noise2 += noise * noise;
                    sums.tune2 += tune * tune;
                    sums.tune_rest2 += (tune - l) * (tune - l);
                    sums.tune_inner += tune * l;
                    sums.served2 += served * served;
                    sums.served += tune * served;
                    sums.changed += f64::from(u8::from(tune != 0.0));
                    sums.same_sign += f64::from(u8::from(tune * served > 0.0));
                }
            }
            sums
        })
        .collect();
    let mut total = Sums::default();
    strips.iter().for_each(|s| total.add(s));
    total
}

/// Rows `range` of left · right, by faer.
fn multiply(l: &LowRank, range: std::ops::Range<usize>, cols: usize, out: &mut [f32]) {
    let rows = range.len();
    let left = &l.left[range.start * l.rank..range.end * l.rank];
    faer::linalg::matmul::matmul(
        faer::MatMut::from_row_major_slice_mut(out, rows, cols),
        faer::Accum::Replace,
        faer::MatRef::from_row_major_slice(left, rows, l.rank),
        faer::MatRef::from_row_major_slice(&l.right, l.rank, cols),
        1.0,
        faer::Par::Seq,
    );
}

/// √(a/b), 0 when there is nothing to relate to.
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { (a / b).sqrt() } else { 0.0 }
}
