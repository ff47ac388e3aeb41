//! Products cut into tasks for the threads of the present rayon pool.

use std::ops::Range;

use rayon::prelude::*;

use crate::format::{Format, with_format};
use crate::lanes::{Isa, Job, LANES, Lanes};
use crate::tile::Strip;
use crate::weights::Weights;
use crate::wide;

/// Rows of activations from which a panel of weights is decoded first.
pub(crate) const WIDE: usize = 24;

/// Bytes of weights of a task.
const TASK_BYTES: usize = 96 << 10;

/// Rows of activations.
///
/// **Shapes** `[m, in]`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: &'a [f32],
    cols: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `cols` elements one after the other.
    ///
    /// # Panics
    /// If `data` does not consist of such rows.
    pub fn new(data: &'a [f32], cols: usize) -> Self {
        assert!(
            cols > 0 && data.len().is_multiple_of(cols),
            "{} elements in rows of {cols}",
            data.len()
        );
        Self { data, cols }
    }

    fn count(&self) -> usize {
        self.data.len() / self.cols
    }
}

/// Rows of results.
///
/// **Shapes** `[m, out]`, row-major.
#[derive(Debug)]
pub struct RowsMut<'a> {
    data: &'a mut [f32],
    cols: usize,
}

impl<'a> RowsMut<'a> {
    /// Rows of `cols` elements one after the other.
    ///
    /// # Panics
    /// If `data` does not consist of such rows.
    pub fn new(data: &'a mut [f32], cols: usize) -> Self {
        assert!(
            cols > 0 && data.len().is_multiple_of(cols),
            "{} elements in rows of {cols}",
            data.len()
        );
        Self { data, cols }
    }
}

/// One product: `y = x Wᵀ`, or `y += x Wᵀ`.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[out, in]`.
    pub weights: Weights<'a>,
    /// `[m, in]`.
    pub x: Rows<'a>,
    /// `[m, out]`.
    pub y: RowsMut<'a>,
    /// Whether it is added to what is in `y`.
    pub add: bool,
}

/// Computes all products, spread together over the threads of the present rayon pool.
///
/// # Panics
/// If the shapes of a product do not fit each other.
pub fn run(products: Vec<Product<'_>>) {
    run_with(Isa::detect(), products);
}

pub(crate) fn run_with(isa: Isa, mut products: Vec<Product<'_>>) {
    let padded: Vec<Option<Vec<f32>>> = products.iter().map(|p| pad(&p.x)).collect();
    let mut tasks = Vec::new();
    for (product, padded) in products.iter_mut().zip(&padded) {
        product.tasks(padded.as_deref(), &mut tasks);
    }
    match tasks.as_mut_slice() {
        [only] => isa.run(only.job()),
        _ => tasks
            .par_iter_mut()
            .with_max_len(1)
            .for_each(|task| isa.run(task.job())),
    }
}

/// Rows padded with zeros to whole vectors, where they are not whole already.
fn pad(x: &Rows<'_>) -> Option<Vec<f32>> {
    if x.cols.is_multiple_of(LANES) {
        return None;
    }
    let width = x.cols.next_multiple_of(LANES);
    let mut padded = vec![0.0; x.count() * width];
    for (to, from) in padded.chunks_mut(width).zip(x.data.chunks(x.cols)) {
        to[..x.cols].copy_from_slice(from);
    }
    Some(padded)
}

impl<'a> Product<'a> {
    /// Cuts the rows of weights into tasks.
    fn tasks<'t>(&'t mut self, padded: Option<&'t [f32]>, tasks: &mut Vec<Target<'t, 't>>) {
        let (rows, cols) = (self.weights.rows(), self.weights.cols());
        assert_eq!(self.x.cols, cols, "columns of activations");
        assert_eq!(self.y.cols, rows, "columns of results");
        assert_eq!(self.y.data.len() / rows, self.x.count(), "rows of results");
        let x: Vec<&[f32]> = match padded {
            Some(padded) => padded.chunks(cols.next_multiple_of(LANES)).collect(),
            None => self.x.data.chunks(cols).collect(),
        };
        let row_bytes = self.weights.coding().row_bytes(cols).max(1);
        let by = (TASK_BYTES / row_bytes).next_multiple_of(8).max(8);
        let mut rests: Vec<&mut [f32]> = self.y.data.chunks_mut(rows).collect();
        for first in (0..rows).step_by(by) {
            let count = by.min(rows - first);
            let y = rests
                .iter_mut()
                .map(|rest| rest.split_off_mut(..count).expect("rows of a task"))
                .collect();
            tasks.push(Target {
                weights: &self.weights,
                rows: first..first + count,
                x: x.clone(),
                y,
                add: self.add,
            });
        }
    }
}

/// Some rows of weights, and where their results go.
pub(crate) struct Target<'a, 'w> {
    pub(crate) weights: &'a Weights<'w>,
    pub(crate) rows: Range<usize>,
    /// All rows of activations, each whole vectors.
    pub(crate) x: Vec<&'a [f32]>,
    /// For each row of activations the results of these rows.
    y: Vec<&'a mut [f32]>,
    add: bool,
}

impl<'a, 'w> Target<'a, 'w> {
    fn job<'t>(&'t mut self) -> Task<'t, 'a, 'w> {
        Task(self)
    }

    #[inline(always)]
    pub(crate) fn put(&mut self, m: usize, row: usize, sum: f32) {
        let y = &mut self.y[m][row - self.rows.start];
        *y = if self.add { *y + sum } else { sum };
    }
}

struct Task<'t, 'a, 'w>(&'t mut Target<'a, 'w>);

impl Job for Task<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let target = self.0;
        with_format!(target.weights, format => task(lanes, &format, target));
    }
}

#[inline(always)]
fn task<L: Lanes, F: Format>(lanes: L, format: &F, target: &mut Target<'_, '_>) {
    if target.x.len() >= WIDE {
        return wide::product(lanes, format, target);
    }
    let mut at = 0;
    while at < target.x.len() {
        at += match target.x.len() - at {
            8.. => strips::<L, F, 2, 8>(lanes, format, target, at),
            4.. => strips::<L, F, 4, 4>(lanes, format, target, at),
            2.. => strips::<L, F, 4, 2>(lanes, format, target, at),
            _ => strips::<L, F, 4, 1>(lanes, format, target, at),
        };
    }
}

/// All rows of weights with `M` rows of activations from `at` on.
#[inline(always)]
fn strips<L: Lanes, F: Format, const R: usize, const M: usize>(
    lanes: L,
    format: &F,
    target: &mut Target<'_, '_>,
    at: usize,
) -> usize {
    let rows = target.rows.clone();
    let whole = rows.start + rows.len() / R * R;
    for row in (rows.start..whole).step_by(R) {
        strip::<L, F, R, M>(lanes, format, target, row, at);
    }
    for row in whole..rows.end {
        strip::<L, F, 1, M>(lanes, format, target, row, at);
    }
    M
}

#[inline(always)]
fn strip<L: Lanes, F: Format, const R: usize, const M: usize>(
    lanes: L,
    format: &F,
    target: &mut Target<'_, '_>,
    row: usize,
    at: usize,
) {
    let x: [&[f32]; M] = std::array::from_fn(|m| target.x[at + m]);
    let strip: Strip<'_, R> = Strip::new(format, target.weights, row);
    let chains = strip.times(lanes, format, x);
    for (m, chains) in chains.into_iter().enumerate() {
        for (r, chain) in chains.into_iter().enumerate() {
            target.put(at + m, row + r, lanes.sum(chain));
        }
    }
}
