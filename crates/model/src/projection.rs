//! The seven projections of a layer, and how a batch goes through them with its adapters.

use std::ops::Range;

use xgraft_matmul::{Product, Rows, RowsMut, run};

use crate::lora::{Factors, LoraAdapter};
use crate::spec::Spec;
use crate::weights::Linear;

/// A projection of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projection {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Projection {
    pub(crate) const COUNT: usize = 7;

    const ALL: [(Projection, &'static str); Self::COUNT] = [
        (Projection::Q, "self_attn.q_proj"),
        (Projection::K, "self_attn.k_proj"),
        (Projection::V, "self_attn.v_proj"),
        (Projection::O, "self_attn.o_proj"),
        (Projection::Gate, "mlp.gate_proj"),
        (Projection::Up, "mlp.up_proj"),
        (Projection::Down, "mlp.down_proj"),
    ];

    /// `[out, in]`.
    pub(crate) fn shape(self, spec: &Spec) -> [usize; 2] {
        let (queries, keys) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        match self {
            Projection::Q => [queries, spec.hidden],
            Projection::K | Projection::V => [keys, spec.hidden],
            Projection::O => [spec.hidden, queries],
            Projection::Gate | Projection::Up => [spec.intermediate, spec.hidden],
            Projection::Down => [spec.hidden, spec.intermediate],
        }
    }

    /// `model.layers.3.mlp.up_proj`.
    pub(crate) fn module(self, layer: usize) -> String {
        format!("model.layers.{layer}.{}", Self::ALL[self as usize].1)
    }

    /// The layer and projection of a module's name.
    pub(crate) fn place(module: &str) -> Option<(usize, Projection)> {
        let (layer, rest) = module.strip_prefix("model.layers.")?.split_once('.')?;
        let (projection, _) = Self::ALL.iter().find(|(_, name)| *name == rest)?;
        Some((layer.parse().ok()?, *projection))
    }
}

/// Rows of a batch that run on one adapter.
#[derive(Debug, Clone)]
pub(crate) struct Group<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) adapter: Option<&'a LoraAdapter>,
}

/// One projection of a batch.
pub(crate) struct Target<'a> {
    pub(crate) projection: Projection,
    pub(crate) linear: &'a Linear,
    /// `[rows, out]`.
    pub(crate) y: &'a mut [f32],
    /// Whether the result is added to what is in `y`.
    pub(crate) add: bool,
}

/// Sends `x` `[rows, in]` through projections of one layer: `y = W x`, and for rows with an adapter `y += scale · B (A x)`.
///
/// Base rows cost nothing more than the base, and a row with an adapter only that adapter's rank.
pub(crate) fn project(x: &[f32], layer: usize, groups: &[Group<'_>], mut targets: Vec<Target<'_>>) {
    let cols = targets[0].linear.cols();
    let part = |rows: &Range<usize>| Rows::new(&x[rows.start * cols..rows.end * cols], cols);
    let adapted: Vec<(usize, &Range<usize>, &Factors)> = groups
        .iter()
        .filter_map(|group| Some((&group.rows, group.adapter?)))
        .flat_map(|(rows, adapter)| {
            let factors = targets.iter().map(|t| adapter.factors(layer, t.projection));
            factors
                .enumerate()
                .filter_map(move |(at, f)| Some((at, rows, f?)))
                .collect::<Vec<_>>()
        })
        .collect();
    let mut narrow: Vec<Vec<f32>> = adapted
        .iter()
        .map(|(_, rows, f)| vec![0.0; rows.len() * f.a.rows()])
        .collect();

    let base = targets.iter_mut().map(|target| Product {
        weights: target.linear.view(),
        x: Rows::new(x, cols),
        y: RowsMut::new(target.y, target.linear.rows()),
        add: target.add,
    });
    let first = adapted
        .iter()
        .zip(&mut narrow)
        .map(|((_, rows, f), t)| Product {
            weights: f.a.view(),
            x: part(rows),
            y: RowsMut::new(t, f.a.rows()),
            add: false,
        });
    run(base.chain(first).collect());
    if adapted.is_empty() {
        return;
    }
    for ((_, _, f), t) in adapted.iter().zip(&mut narrow) {
        t.iter_mut().for_each(|t| *t *= f.scale);
    }
    // Each target's rows are given out once: groups are disjoint and in order.
    let mut products = Vec::with_capacity(adapted.len());
    for (at, target) in targets.iter_mut().enumerate() {
        let out = target.linear.rows();
        let (mut rest, mut taken): (&mut [f32], usize) = (target.y, 0);
        for ((which, rows, f), t) in adapted.iter().zip(&narrow) {
            if *which != at {
                continue;
            }
            let (_, tail) = rest.split_at_mut((rows.start - taken) * out);
            let (y, tail) = tail.split_at_mut(rows.len() * out);
            (rest, taken) = (tail, rows.end);
            products.push(Product {
                weights: f.b.view(),
                x: Rows::new(t, f.b.cols()),
                y: RowsMut::new(y, out),
                add: true,
            });
        }
    }
    run(products);
}
