//! Products cut into tasks for the threads of the present rayon pool.

use std::ops::Range;

use rayon::prelude::*;

use crate::format::{Format, with_format};
use crate::lanes::{Isa, Job, Lanes};
use crate::packed::{Group, Packed};
use crate::tile::{Strip, sums};
use crate::weights::Weights;
use crate::wide;

/// Rows of activations from which a panel of weights is decoded first.
pub(crate) const WIDE: usize = 9;

/// Sizes of groups of fewer rows.
const SMALL: &[usize] = &[1, 2, 4, 6, 8];

/// Bytes of weights of a task.
const TASK_BYTES: usize = 96 << 10;

/// A multiple of the rows of every strip.
const STRIPS: usize = 24;

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

    fn packed(&self) -> Packed {
        let sizes = if self.count() < WIDE {
            SMALL
        } else {
            wide::SIZES
        };
        Packed::new(self.data.chunks_exact(self.cols), sizes)
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
    let packed: Vec<Packed> = products.iter().map(|product| product.x.packed()).collect();
    let mut tasks = Vec::new();
    for (product, packed) in products.iter_mut().zip(&packed) {
        product.tasks(packed, &mut tasks);
    }
    match tasks.as_mut_slice() {
        [only] => isa.run(only.job()),
        _ => tasks
            .par_iter_mut()
            .with_max_len(1)
            .for_each(|task| isa.run(task.job())),
    }
}

impl<'a> Product<'a> {
    /// Cuts the rows of weights into tasks.
    fn tasks<'t>(&'t mut self, x: &'t Packed, tasks: &mut Vec<Target<'t, 't>>) {
        let (rows, cols) = (self.weights.rows(), self.weights.cols());
        assert_eq!(self.x.cols, cols, "columns of activations");
        assert_eq!(self.y.cols, rows, "columns of results");
        assert_eq!(self.y.data.len() / rows, self.x.count(), "rows of results");
        let row_bytes = self.weights.coding().row_bytes(cols).max(1);
        let by = (TASK_BYTES / row_bytes).max(1).next_multiple_of(STRIPS);
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
                x,
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
    /// All rows of activations.
    pub(crate) x: &'a Packed,
    /// For each row of activations the results of these rows.
    y: Vec<&'a mut [f32]>,
    add: bool,
}

impl<'a, 'w> Target<'a, 'w> {
    fn job<'t>(&'t mut self) -> Task<'t, 'a, 'w> {
        Task(self)
    }

    #[inline(always)]
    pub(crate) fn put(&mut self, m: usize, row: usize, sums: &[f32]) {
        let y = &mut self.y[m][row - self.rows.start..][..sums.len()];
        for (y, sum) in y.iter_mut().zip(sums) {
            *y = if self.add { *y + sum } else { *sum };
        }
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
    if target.x.rows() >= WIDE {
        return wide::product(lanes, format, target);
    }
    for group in target.x.groups() {
        match group.size {
            8 => strips::<L, F, 2, 8>(lanes, format, target, group),
            6 => strips::<L, F, 4, 6>(lanes, format, target, group),
            4 => strips::<L, F, 4, 4>(lanes, format, target, group),
            2 => strips::<L, F, 4, 2>(lanes, format, target, group),
            _ => strips::<L, F, 4, 1>(lanes, format, target, group),
        }
    }
}

/// All rows of weights with a group of activations.
#[inline(always)]
fn strips<L: Lanes, F: Format, const R: usize, const M: usize>(
    lanes: L,
    format: &F,
    target: &mut Target<'_, '_>,
    group: &Group,
) {
    let rows = target.rows.clone();
    let whole = rows.start + rows.len() / R * R;
    for row in (rows.start..whole).step_by(R) {
        strip::<L, F, R, M>(lanes, format, target, row, group);
    }
    for row in whole..rows.end {
        strip::<L, F, 1, M>(lanes, format, target, row, group);
    }
}

#[inline(always)]
fn strip<L: Lanes, F: Format, const R: usize, const M: usize>(
    lanes: L,
    format: &F,
    target: &mut Target<'_, '_>,
    row: usize,
    group: &Group,
) {
    let strip: Strip<'_, R> = Strip::new(format, target.weights, row);
    let chains = strip.times(lanes, format, target.x.lines(group));
    let sums: [[f32; R]; M] = sums(lanes, &chains);
    for (m, sums) in sums.iter().enumerate().take(group.rows) {
        target.put(group.first + m, row, sums);
    }
}
