//! A look at what goes into the projections, on its way.

use crate::projection::Projection;
use crate::spec::Spec;

/// Sees the input of every projection while a batch is computed, and may change it.
///
/// Calibration measures it; an experiment rounds it as an engine would. Without a tap nothing is called.
pub trait Tap: Send {
    /// The rows that go into the projections of `site` in `layer`, all of the batch, before any of them is multiplied.
    ///
    /// **Shapes** `x` is `[rows, site.width(spec)]`, row-major.
    fn input(&mut self, layer: usize, site: Site, x: &mut [f32]);
}

/// A place in a layer whose rows are the input of one or more projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// Normalized: into q, k and v.
    Attention,
    /// What the heads have mixed: into o.
    AttentionOutput,
    /// Normalized: into gate and up.
    FeedForward,
    /// silu(gate) · up: into down.
    Down,
}

impl Site {
    /// All of them, in the order in which a layer computes.
    pub const ALL: [Site; 4] = [
        Site::Attention,
        Site::AttentionOutput,
        Site::FeedForward,
        Site::Down,
    ];

    /// Elements of a row.
    pub fn width(self, spec: &Spec) -> usize {
        self.projections()[0].shape(spec)[1]
    }

    /// The modules that read it in a layer: `model.layers.3.mlp.gate_proj`, `model.layers.3.mlp.up_proj`.
    pub fn modules(self, layer: usize) -> Vec<String> {
        let projections = self.projections().iter();
        projections.map(|p| p.module(layer)).collect()
    }

    fn projections(self) -> &'static [Projection] {
        match self {
            Site::Attention => &[Projection::Q, Projection::K, Projection::V],
            Site::AttentionOutput => &[Projection::O],
            Site::FeedForward => &[Projection::Gate, Projection::Up],
            Site::Down => &[Projection::Down],
        }
    }
}
