//! The block Krylov iteration.
//!
//! With `A = D Dᵀ` on the shorter side of `D` and a random start `Ω`, the basis spans `Ω, AΩ, A²Ω, …`, one block a step.
//! The image `Dᵀ K` of each block is needed for the next one anyway and is a block of `Dᵀ Q`, so the small problem
//! `Qᵀ D Dᵀ Q` costs one product beyond those that build the basis. One more, of the last image, is computed beside the
//! small eigenproblem: it says how far the result is from converged, and is the start of the next block if it is not.

use xgraft_cpu_gemm::{Side, Source, cross_f64, gram_f64};

use crate::basis::{NOISE, orthonormalize};
use crate::cholesky::PivotedCholesky;
use crate::dense::{multiply, narrow, transpose};
use crate::operator::Operator;
use crate::panel::{Panel, Panels};
use crate::plan::Plan;
use crate::progress::Monitor;
use crate::ritz::Ritz;
use crate::{Config, Error, Result, random};

/// A Krylov basis and its image.
#[derive(Debug, Default)]
pub(crate) struct Krylov {
    /// Orthonormal, on the short side.
    pub(crate) basis: Panels,
    /// The operator applied to the basis, on the long side.
    pub(crate) image: Panels,
    /// Gram matrix of the image, `[width, width]`.
    gram: Vec<f64>,
}

/// Where the next block would lead.
#[derive(Debug)]
struct Reach {
    /// The operator and its transpose applied to the last block, the columns perhaps recombined.
    directions: Panel,
    /// How they were recombined: the image of the last block was multiplied by this factor's orthonormalizer.
    recombined: Option<PivotedCholesky>,
}

/// Grows a basis until it holds what `config` asks for, and solves the small problem in it.
pub(crate) fn iterate<S: Source + ?Sized>(
    operator: &Operator<'_, S>,
    config: &Config,
    plan: &Plan,
    norm2: f64,
    monitor: &mut Monitor<'_>,
) -> Result<(Krylov, Ritz)> {
    let mut krylov = Krylov::default();
    let mut next_check = plan.first_check;
    // Random on the short side: half a power less than `D Ω`, for a whole product less.
    let mut directions = random::panel(operator.short(), plan.block, config.seed);
    let mut step = 0;
    loop {
        step += 1;
        let overflow = || Error::Overflow { norm: norm2.sqrt() };
        let mut block = orthonormalize(directions, &krylov.basis).ok_or_else(overflow)?;
        if block.width == 0 {
            // The space is invariant. What it lacks of a multiple eigenvalue a new start finds, if there is anything left.
            directions = krylov.restart(operator, plan.block, config.seed, monitor)?;
            block = orthonormalize(directions, &krylov.basis).ok_or_else(overflow)?;
        }
        if block.width == 0 {
            return krylov.solve(norm2).map(|ritz| (krylov, ritz));
        }
        monitor.product(krylov.basis.width())?;
        let image = operator.lengthen(&block);
        krylov.push(block, image, norm2)?;
        monitor.product(krylov.basis.width())?;
        if step < next_check {
            directions = krylov.reach(operator).directions;
            continue;
        }
        let (ritz, reach) = rayon::join(|| krylov.solve(norm2), || krylov.reach(operator));
        let mut ritz = ritz?;
        let coupling = krylov.coupling(&reach);
        ritz.couple(&coupling, krylov.last_width(), krylov.last_mean());
        let rank = config.rank(&ritz.values, norm2);
        let full = krylov.basis.width() >= operator.short();
        if full || step >= config.max_depth || ritz.settled(rank, config.tolerance) {
            ritz.certify(rank, &krylov.gram, &coupling, krylov.last_width())?;
            return Ok((krylov, ritz));
        }
        next_check = Plan::check_after(step);
        directions = reach.directions;
    }
}

impl Krylov {
    /// The image of random vectors, for another beginning: in the range of the operator, unlike the first block.
    fn restart<S: Source + ?Sized>(
        &self,
        operator: &Operator<'_, S>,
        width: usize,
        seed: u64,
        monitor: &mut Monitor<'_>,
    ) -> Result<Panel> {
        let known = self.basis.width();
        monitor.product(known)?;
        Ok(operator.shorten(&random::panel(
            operator.long(),
            width,
            random::mix(seed, known as u64),
        )))
    }

    /// Adds a block and its image.
    fn push(&mut self, block: Panel, image: Panel, norm2: f64) -> Result<()> {
        let (before, width) = (self.basis.width(), block.width);
        self.basis.push(block);
        self.image.push(image);
        let last = self.image.last().map(Panel::source);
        let columns = last.map_or_else(Vec::new, |last| cross_f64(&self.image, &last));
        if columns.iter().any(|x| !x.is_finite()) {
            return Err(Error::Overflow { norm: norm2.sqrt() });
        }
        self.gram = extend(&self.gram, before, &columns, width);
        Ok(())
    }

    /// Columns of the last block.
    fn last_width(&self) -> usize {
        self.image.last().map_or(0, |last| last.width)
    }

    /// Mean of the last diagonal block of the Gram matrix.
    fn last_mean(&self) -> f64 {
        let (all, last) = (self.basis.width(), self.last_width());
        (all - last..all)
            .map(|i| self.gram[i * all + i])
            .sum::<f64>()
            / last.max(1) as f64
    }

    /// The last columns of the Gram matrix, `[width, last]`.
    fn last_columns(&self) -> Vec<f64> {
        let (all, last) = (self.basis.width(), self.last_width());
        let rows = self.gram.chunks_exact(all.max(1));
        rows.flat_map(|row| &row[all - last..]).copied().collect()
    }

    /// Solves the small problem.
    fn solve(&self, norm2: f64) -> Result<Ritz> {
        Ritz::new(&self.gram, self.basis.width(), norm2)
    }

    /// Applies operator and transpose to the last block.
    ///
    /// Where the columns of its image nearly depend on each other, to well conditioned ones with the same span: otherwise the
    /// product would square the range of singular values within the block, and f32 would lose those below 1/3000 of the largest.
    fn reach<S: Source + ?Sized>(&self, operator: &Operator<'_, S>) -> Reach {
        /// Smallest pivot, as a share of the largest, that needs no help.
        const WIDE: f64 = 1e-6;
        /// Lengths of image columns that can be squared in f32 without help.
        const RANGE: std::ops::Range<f64> = 1e-12..1e12;
        let Some(image) = self.image.last() else {
            return Reach {
                directions: Panel::zeros(operator.short(), 0),
                recombined: None,
            };
        };
        let (n, before) = (image.width, self.basis.width() - image.width);
        let own = &self.last_columns()[before * n..];
        let longest = (0..n).map(|i| own[i * n + i]).fold(0.0, f64::max);
        let factor = PivotedCholesky::new(own, n, longest * NOISE * NOISE);
        if factor.smallest_share() > WIDE && RANGE.contains(&longest.sqrt()) {
            return Reach {
                directions: operator.shorten(image),
                recombined: None,
            };
        }
        let combined = image.times(&narrow(&factor.orthonormalizer()), factor.rank);
        Reach {
            directions: operator.shorten(&combined),
            recombined: Some(factor),
        }
    }

    /// `EᵀE`, `[last, last]`, where `E` couples the last block to what the basis leaves out.
    ///
    /// With `Y = A K` for the last block `K`, `E = Y - Q Qᵀ Y`, and `QᵀY` is in the Gram matrix already.
    fn coupling(&self, reach: &Reach) -> Vec<f64> {
        let (n, k) = (self.last_width(), reach.directions.width);
        let mut inside = self.last_columns();
        if let Some(factor) = &reach.recombined {
            inside = multiply(&inside, &factor.orthonormalizer(), n, k);
        }
        let mut outside = gram_f64(&reach.directions.source(), Side::Cols);
        let within = multiply(&transpose(&inside, k), &inside, self.basis.width(), k);
        outside
            .iter_mut()
            .zip(within)
            .for_each(|(x, within)| *x -= within);
        match &reach.recombined {
            None => outside,
            Some(factor) => {
                let back = factor.factor();
                multiply(&multiply(&transpose(&back, n), &outside, k, k), &back, k, n)
            }
        }
    }
}

/// The symmetric matrix `[[gram, upper], [upperᵀ, corner]]`, given the columns of its right part.
fn extend(gram: &[f64], n: usize, columns: &[f64], width: usize) -> Vec<f64> {
    let all = n + width;
    let mut out = vec![0.0; all * all];
    for (i, row) in columns.chunks_exact(width).enumerate() {
        if i < n {
            out[i * all..][..n].copy_from_slice(&gram[i * n..(i + 1) * n]);
        }
        for (j, x) in row.iter().enumerate() {
            out[i * all + n + j] = *x;
            out[(n + j) * all + i] = *x;
        }
    }
    out
}
