//! A quantization's noise, N = dequantized − original, and what it is beside an update.

use std::ops::ControlFlow;

use rayon::join;
use xgraft_checkpoint::{Checkpoint, Digest, WeightMatrix};
use xgraft_cpu_gemm::{Diff, F32, Source, cross_f64, inner_products, squared_norm};
use xgraft_low_rank::{Config, Stop, truncated_svd};

use crate::error::{Error, Result};
use crate::measures::{Cosine, Leakage, decibel};
use crate::random::{Normal, permutation};
use crate::report::{NoiseReport, OtherLayer};
use crate::update::{Pair, Update};

/// A checkpoint and its quantized copy.
///
/// The copy may hold codes and scales, or be their dequantized bridge in BF16: N is then that of the bridge, with its own rounding.
#[derive(Debug)]
pub struct Noise {
    /// What rows and tables call it.
    pub label: String,
    /// Before quantization.
    pub original: Checkpoint,
    /// After.
    pub quantized: Checkpoint,
}

/// Both weights of one layer.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) original: WeightMatrix,
    pub(crate) quantized: WeightMatrix,
}

impl Weights {
    /// Reads both, with the digests of their bytes.
    pub(crate) fn load(noise: &Noise, module: &str) -> Result<(Self, [Digest; 2])> {
        let load = |checkpoint: &Checkpoint| {
            let missing = || xgraft_checkpoint::Error::NoSuchTensor {
                dir: checkpoint.dir().to_owned(),
                tensor: module.to_owned(),
            };
            checkpoint.load(checkpoint.weight(module).ok_or_else(missing)?)
        };
        let (original, quantized) = join(|| load(&noise.original), || load(&noise.quantized));
        let ((original, first), (quantized, second)) = (original?, quantized?);
        let weights = Self {
            original,
            quantized,
        };
        Ok((weights, [first, second]))
    }

    /// N, subtracted while it is packed.
    pub(crate) fn noise(&self) -> Diff<&WeightMatrix, &WeightMatrix> {
        Diff::new(&self.quantized, &self.original)
    }
}

/// What a noise is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) module: &'a str,
    pub(crate) update: &'a Update,
    /// The adapter's pair of the same projection in another layer.
    pub(crate) neighbour: Option<(&'a str, &'a Pair)>,
    /// Of the random control.
    pub(crate) random_seed: u64,
    /// Of the shuffled control and of the spectrum's start.
    pub(crate) shuffle_seed: u64,
}

/// Measures one noise; `None` where it is zero. `go` is asked before every pass over the weights.
///
/// Costs three passes, three products with a panel of the adapter's rank, and the spectrum.
pub(crate) fn measure(
    label: &str,
    weights: &Weights,
    subject: &Subject<'_>,
    go: &dyn Fn() -> Result<()>,
) -> Result<Option<NoiseReport>> {
    let (noise, update) = (weights.noise(), subject.update);
    let (m, n, r) = (update.rows, update.cols, update.rank());
    go()?;
    let [noise2, _, weight2] = inner_products(&noise, &weights.original);
    if noise2 == 0.0 {
        return Ok(None);
    }
    let update2 = update.norm2();
    let cosine = |inner, other2| Cosine::new(inner, noise2, other2, m * n);

    go()?;
    let rows_inside = update.rows_inside(&noise);
    go()?;
    let left2 = squared_norm(&F32::new(&rows_inside, n, r));
    let right2 = squared_norm(&F32::new(&update.cols_inside(&noise), m, r));
    let core = cross_f64(&F32::new(&rows_inside, n, r), &update.right());
    let inside2: f64 = core.iter().map(|x| x * x).sum();

    go()?;
    let normal = Normal {
        rows: m,
        cols: n,
        seed: subject.random_seed,
    };
    let [_, random, random2] = inner_products(&noise, &normal);
    let shuffle = permutation(n, subject.shuffle_seed);
    let shuffled = update.inner(&rows_inside, shuffle.into_iter());
    go()?;
    let other_layer = subject.neighbour.map(|(module, pair)| {
        let (inner, other2) = pair.inner(&noise);
        OtherLayer {
            module: module.to_owned(),
            cosine: cosine(inner, other2),
        }
    });
    let singular_values = spectrum(&noise, subject, go)?;
    let first = singular_values.first().copied().unwrap_or(0.0);
    let norm = noise2.sqrt();
    let edge = norm * ((m as f64).sqrt().recip() + (n as f64).sqrt().recip());
    let share = |d: usize| r as f64 / d as f64;
    let ratio = |x2: f64, y2: f64| if y2 > 0.0 { (x2 / y2).sqrt() } else { 0.0 };
    Ok(Some(NoiseReport {
        noise: label.to_owned(),
        norm,
        weight_norm: weight2.sqrt(),
        over_weight: ratio(noise2, weight2),
        over_adapter: ratio(noise2, update2),
        adapter_over_weight: ratio(update2, weight2),
        stable_rank: ratio(noise2, first * first).powi(2),
        over_white_edge: first / edge,
        singular_values,
        cosine: cosine(update.inner(&rows_inside, 0..n), update2),
        left: Leakage::new(left2, noise2, share(m)),
        right: Leakage::new(right2, noise2, share(n)),
        inside: Leakage::new(inside2, noise2, share(m) * share(n)),
        snr_inside_db: decibel(update2, inside2),
        snr_left_db: decibel(update2, left2),
        random: cosine(random, random2),
        shuffled: cosine(shuffled, update2),
        other_layer,
    }))
}

/// Leading singular values of a noise.
///
/// A spectrum that is flat at its upper end converges slowly: the first value is then some parts in a thousand too low,
/// which is enough to tell a flat spectrum from one that stands out.
fn spectrum<S: Source + ?Sized>(
    noise: &S,
    subject: &Subject<'_>,
    go: &dyn Fn() -> Result<()>,
) -> Result<Vec<f64>> {
    const VALUES: usize = 8;
    const BLOCK: usize = 16;
    const DEPTH: usize = 8;
    let config = Config {
        stop: Stop::Rank(VALUES),
        block: Some(BLOCK),
        min_depth: Some(DEPTH),
        max_depth: DEPTH,
        seed: subject.shuffle_seed,
        ..Config::default()
    };
    let found = truncated_svd(noise, &config, &|_| match go() {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    Ok(found
        .map_err(Error::low_rank("the noise", subject.module))?
        .singular_values)
}
