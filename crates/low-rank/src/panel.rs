//! Tall thin matrices, and several of them side by side.

use std::ops::Range;

use xgraft_cpu_gemm::{F32, Lines, Source, matmul, matmul_tn};

/// A row-major `[rows, width]` matrix with few columns.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) data: Vec<f32>,
}

impl Panel {
    pub(crate) fn zeros(rows: usize, width: usize) -> Self {
        Self {
            rows,
            width,
            data: vec![0.0; rows * width],
        }
    }

    /// The first `n` columns.
    pub(crate) fn leading(self, n: usize) -> Self {
        if n == self.width {
            return self;
        }
        let data = self
            .data
            .chunks_exact(self.width)
            .flat_map(|row| &row[..n])
            .copied()
            .collect();
        Self {
            width: n,
            data,
            ..self
        }
    }

    pub(crate) fn source(&self) -> F32<'_> {
        F32::new(&self.data, self.rows, self.width)
    }

    /// This panel times a `[width, n]` matrix.
    pub(crate) fn times(&self, small: &[f32], n: usize) -> Self {
        let mut out = Self::zeros(self.rows, n);
        matmul(&self.source(), small, n, &mut out.data);
        out
    }
}

/// Panels with equal numbers of rows, side by side: one matrix as far as products are concerned.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    panels: Vec<Panel>,
}

impl Panels {
    pub(crate) fn push(&mut self, panel: Panel) {
        self.panels.push(panel);
    }

    pub(crate) fn last(&self) -> Option<&Panel> {
        self.panels.last()
    }

    /// Columns of all panels together.
    pub(crate) fn width(&self) -> usize {
        self.panels.iter().map(|p| p.width).sum()
    }

    /// The matrix times a `[width, n]` matrix.
    pub(crate) fn times(&self, small: &[f32], n: usize) -> Panel {
        let mut out = Panel::zeros(self.rows(), n);
        matmul(self, small, n, &mut out.data);
        out
    }

    /// The transposed matrix times a panel: `[width, n]`.
    pub(crate) fn transposed_times(&self, panel: &Panel) -> Vec<f32> {
        let mut out = vec![0.0; self.width() * panel.width];
        matmul_tn(self, &panel.data, panel.width, &mut out);
        out
    }

    /// Calls `visit` for each panel that a range of columns touches, with the columns in it and their place in the range.
    fn parts(&self, cols: &Range<usize>, mut visit: impl FnMut(&Panel, Range<usize>, usize)) {
        let mut first = 0;
        for panel in &self.panels {
            let here = cols.start.max(first)..cols.end.min(first + panel.width);
            if !here.is_empty() {
                visit(
                    panel,
                    here.start - first..here.end - first,
                    here.start - cols.start,
                );
            }
            first += panel.width;
        }
    }
}

impl Source for Panels {
    fn rows(&self) -> usize {
        self.panels.first().map_or(0, |p| p.rows)
    }

    fn cols(&self) -> usize {
        self.width()
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        self.parts(&cols, |panel, part, at| {
            panel.source().pack(rows.clone(), part, &mut dst[at..], ld);
        });
    }

    fn ahead(&self, rows: Range<usize>, cols: Range<usize>, lines: &mut Lines) {
        self.parts(&cols, |panel, part, _| {
            panel.source().ahead(rows.clone(), part, lines);
        });
    }
}
