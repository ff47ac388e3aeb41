//! The block Krylov iteration.
//!
//! With `A = D Dᵀ` on the shorter side of `D` and a random start `Ω`, the basis spans `DΩ, A DΩ, A² DΩ, …`, one block a step.
//! The image `Dᵀ K` of each block is needed for the next one anyway and is a block of `Dᵀ Q`, so the small problem
//! `Qᵀ D Dᵀ Q` costs one product beyond those that build the basis.

use xgraft_cpu_gemm::{Source, cross_f64};

use crate::basis::{NOISE, orthonormalize, project_out};
use crate::check::squared;
use crate::cholesky::PivotedCholesky;
use crate::dense::narrow;
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

/// Grows a basis until it holds what `config` asks for, and solves the small problem in it.
pub(crate) fn iterate<S: Source + ?Sized>(
    operator: &Operator<'_, S>,
    config: &Config,
    plan: &Plan,
    norm2: f64,
    monitor: &mut Monitor<'_>,
) -> Result<(Krylov, Ritz)> {
    let mut krylov = Krylov::default();
    monitor.product(0)?;
    let mut directions = operator.shorten(&random::panel(operator.long(), plan.block, config.seed));
    for step in 1.. {
        let block = orthonormalize(directions, &krylov.basis)
            .ok_or(Error::Overflow { norm: norm2.sqrt() })?;
        let exhausted = block.width == 0;
        if !exhausted {
            monitor.product(krylov.basis.width())?;
            let image = operator.lengthen(&block);
            krylov.push(block, image, norm2)?;
        }
        if exhausted || step >= plan.first_check {
            let mut ritz = krylov.solve(norm2, exhausted)?;
            let rank = config.rank(&ritz.values, norm2);
            if !exhausted {
                monitor.product(krylov.basis.width())?;
                ritz.calibrate(rank, |weights, n| krylov.coupling2(operator, weights, n));
            }
            let full = krylov.basis.width() >= operator.short();
            if exhausted || full || step >= config.max_depth || ritz.settled(rank, config) {
                return Ok((krylov, ritz));
            }
        }
        monitor.product(krylov.basis.width())?;
        directions = krylov.next_directions(operator);
    }
    unreachable!("the loop has no end but its returns")
}

impl Krylov {
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

    /// The image of the last block, or, where its columns nearly depend on each other, well conditioned columns with its span.
    ///
    /// Without that the next product would square the range of singular values within the block,
    /// and f32 would lose those below 1/3000 of the largest.
    fn next_directions<S: Source + ?Sized>(&self, operator: &Operator<'_, S>) -> Panel {
        /// Smallest pivot, as a share of the largest, that needs no help.
        const WIDE: f64 = 1e-6;
        /// Lengths of image columns that can be squared in f32 without help.
        const RANGE: std::ops::Range<f64> = 1e-12..1e12;
        let Some(last) = self.image.last() else {
            return Panel::zeros(operator.short(), 0);
        };
        let own = self.last_gram(last.width);
        let longest = (0..last.width)
            .map(|i| own[i * last.width + i])
            .fold(0.0, f64::max);
        let factor = PivotedCholesky::new(&own, last.width, longest * NOISE * NOISE);
        if factor.smallest_share() > WIDE && RANGE.contains(&longest.sqrt()) {
            operator.shorten(last)
        } else {
            operator.shorten(&last.times(&narrow(&factor.orthonormalizer()), factor.rank))
        }
    }

    /// Squared Frobenius norm of `E X`, where `E` couples the last block to what the basis leaves out, and `X` is `[last, n]`.
    fn coupling2<S: Source + ?Sized>(
        &self,
        operator: &Operator<'_, S>,
        x: &[f32],
        n: usize,
    ) -> f64 {
        let Some(last) = self.image.last() else {
            return 0.0;
        };
        let mut outside = operator.shorten(&last.times(x, n));
        project_out(&mut outside, &self.basis);
        squared(&outside.data, 1 << 14)
    }

    /// Gram matrix of the last image block.
    fn last_gram(&self, width: usize) -> Vec<f64> {
        let all = self.basis.width();
        let rows = self.gram.chunks_exact(all.max(1)).skip(all - width);
        rows.flat_map(|row| row[all - width..].iter().copied())
            .collect()
    }

    /// Solves the small problem.
    fn solve(&self, norm2: f64, exhausted: bool) -> Result<Ritz> {
        let last = if exhausted {
            0
        } else {
            self.image.last().map_or(0, |p| p.width)
        };
        Ritz::new(&self.gram, self.basis.width(), last, norm2)
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
