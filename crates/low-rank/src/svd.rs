//! The entry points.

use std::ops::ControlFlow;

use xgraft_cpu_gemm::{Source, gram_f64, squared_norm};

use crate::assemble::Triplets;
use crate::dense::{self, Eigen};
use crate::factors::{Factors, Knowledge};
use crate::krylov::iterate;
use crate::operator::Operator;
use crate::plan::Plan;
use crate::progress::{Monitor, Progress};
use crate::{Config, Error, Result};

/// The leading singular triplets of `d`, as many as `config` asks for.
///
/// Runs on rayon's current pool; the bytes of the result do not depend on its number of threads.
/// `progress` is called before each product with the matrix, on the calling thread, and may stop the work.
///
/// # Errors
/// A NaN or infinite element, products beyond the range of f32, a configuration that makes no sense, or a stop by `progress`.
///
/// **Source** Musco and Musco 2015, "Randomized block Krylov methods for stronger and faster approximate singular value
/// decomposition", algorithm 2; Halko, Martinsson, Tropp 2011 (arXiv 0909.4061) for the frame.
pub fn truncated_svd<S: Source + ?Sized>(
    d: &S,
    config: &Config,
    progress: &dyn Fn(Progress) -> ControlFlow<()>,
) -> Result<Factors> {
    config.check()?;
    let norm2 = finite_norm(d)?;
    let operator = Operator::new(d);
    let cap = config.stop.cap().min(operator.short());
    if cap == 0 || norm2 == 0.0 {
        return Ok(nothing(d, norm2));
    }
    match Plan::new(config, cap, operator.short()) {
        Some(plan) => thin(d, &operator, config, &plan, norm2, progress),
        None => whole(d, &operator, config, norm2, progress),
    }
}

/// All singular values of `d`, descending, from the eigenvalues of the f64 Gram matrix of its shorter side.
///
/// A value is right to about `1e-15` of the square of the largest, so values below `1e-7` of the largest are rounding.
/// Takes cubic time and `24 n²` bytes for a shorter side of `n`.
///
/// # Errors
/// A NaN or infinite element.
pub fn exact_singular_values<S: Source + ?Sized>(d: &S) -> Result<Vec<f64>> {
    finite_norm(d)?;
    let operator = Operator::new(d);
    let gram = gram_f64(d, operator.short_side());
    let squares = dense::eigenvalues(&gram, operator.short())?;
    Ok(squares.into_iter().map(|x| x.max(0.0).sqrt()).collect())
}

/// `‖D‖_F²`, or which element stands in its way.
fn finite_norm<S: Source + ?Sized>(d: &S) -> Result<f64> {
    let norm2 = squared_norm(d);
    if norm2.is_finite() {
        return Ok(norm2);
    }
    let mut line = vec![0.0; d.cols()];
    for row in 0..d.rows() {
        d.pack(row..row + 1, 0..d.cols(), &mut line, d.cols());
        if let Some(col) = line.iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite {
                row,
                col,
                value: line[col],
            });
        }
    }
    Err(Error::Overflow { norm: norm2.sqrt() })
}

/// No triplets: what is asked of a zero matrix, or of rank 0.
fn nothing<S: Source + ?Sized>(d: &S, norm2: f64) -> Factors {
    Factors {
        rows: d.rows(),
        cols: d.cols(),
        u: Vec::new(),
        singular_values: Vec::new(),
        v: Vec::new(),
        ritz: Vec::new(),
        norm2,
        basis: 0,
        products: 0,
        knowledge: Knowledge::default(),
    }
}

/// By a Krylov basis.
fn thin<S: Source + ?Sized>(
    d: &S,
    operator: &Operator<'_, S>,
    config: &Config,
    plan: &Plan,
    norm2: f64,
    progress: &dyn Fn(Progress) -> ControlFlow<()>,
) -> Result<Factors> {
    let mut monitor = Monitor::new(progress, 2 * plan.first_check + 1);
    let (krylov, ritz) = iterate(operator, config, plan, norm2, &mut monitor)?;
    let rank = config.rank(&ritz.values, norm2);
    let leading = ritz.eigen.leading(rank);
    let short = krylov.basis.times(&leading, rank);
    let long = krylov.image.times(&leading, rank);
    let basis = krylov.basis.width();
    drop(krylov);
    let found = Found {
        squares: ritz.values,
        rises: ritz.rises,
        lifts: ritz.lifts,
        basis,
        products: monitor.products(),
    };
    Ok(finish(
        d,
        operator,
        Triplets::new(short, long)?,
        found,
        norm2,
    ))
}

/// By the eigenvectors of the whole Gram matrix, where a Krylov basis would have to hold most of the shorter side anyway.
fn whole<S: Source + ?Sized>(
    d: &S,
    operator: &Operator<'_, S>,
    config: &Config,
    norm2: f64,
    progress: &dyn Fn(Progress) -> ControlFlow<()>,
) -> Result<Factors> {
    let mut monitor = Monitor::new(progress, 2);
    monitor.product(0)?;
    let n = operator.short();
    let eigen = Eigen::new(&gram_f64(d, operator.short_side()), n)?;
    let squares: Vec<f64> = eigen.values.iter().map(|x| x.max(0.0)).collect();
    let rank = config.rank(&squares, norm2);
    monitor.product(n)?;
    let short = crate::panel::Panel {
        rows: n,
        width: rank,
        data: eigen.leading(rank),
    };
    let long = operator.lengthen(&short);
    if long.data.iter().any(|x| !x.is_finite()) {
        return Err(Error::Overflow { norm: norm2.sqrt() });
    }
    let found = Found {
        squares,
        rises: Vec::new(),
        lifts: vec![0.0; n],
        basis: n,
        products: monitor.products(),
    };
    Ok(finish(
        d,
        operator,
        Triplets::new(short, long)?,
        found,
        norm2,
    ))
}

/// What either way has found besides the triplets.
struct Found {
    squares: Vec<f64>,
    rises: Vec<f64>,
    lifts: Vec<f64>,
    basis: usize,
    products: usize,
}

/// Puts the sides in the order of the matrix, and measures the residual where it is too small to be had by subtraction.
fn finish<S: Source + ?Sized>(
    d: &S,
    operator: &Operator<'_, S>,
    triplets: Triplets,
    found: Found,
    norm2: f64,
) -> Factors {
    /// Share of `norm2` below which the difference of `norm2` and the captured part is not exact enough.
    const SMALL: f64 = 1e-3;
    let (short, long) = (triplets.short.data, triplets.long.data);
    let (u, v) = if operator.rows_short {
        (short, long)
    } else {
        (long, short)
    };
    let mut factors = Factors {
        rows: d.rows(),
        cols: d.cols(),
        u,
        singular_values: triplets.values,
        v,
        ritz: found.squares.iter().map(|x| x.sqrt()).collect(),
        norm2,
        basis: found.basis,
        products: found.products,
        knowledge: Knowledge {
            measured2: None,
            rises: found.rises,
            lifts: found.lifts,
        },
    };
    if factors.residual2(factors.rank()) < SMALL * norm2 {
        factors.knowledge.measured2 = Some(factors.measure(d));
    }
    factors
}
