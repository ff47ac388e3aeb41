//! The matrix as seen from its shorter side.

use xgraft_cpu_gemm::{Side, Source, matmul, matmul_tn};

use crate::panel::Panel;

/// A matrix whose shorter side carries the basis.
///
/// The basis is orthogonalized again and again, so it had better be short; the products with it are as long as need be.
#[derive(Debug)]
pub(crate) struct Operator<'a, S: ?Sized> {
    source: &'a S,
    /// The basis is on the side of the rows.
    pub(crate) rows_short: bool,
}

impl<'a, S: Source + ?Sized> Operator<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self {
            source,
            rows_short: source.rows() <= source.cols(),
        }
    }

    pub(crate) fn short(&self) -> usize {
        self.source.rows().min(self.source.cols())
    }

    /// Which side is the shorter one.
    pub(crate) fn short_side(&self) -> Side {
        if self.rows_short {
            Side::Rows
        } else {
            Side::Cols
        }
    }

    pub(crate) fn long(&self) -> usize {
        self.source.rows().max(self.source.cols())
    }

    /// From the short side to the long one.
    pub(crate) fn lengthen(&self, panel: &Panel) -> Panel {
        let mut out = Panel::zeros(self.long(), panel.width);
        if self.rows_short {
            matmul_tn(self.source, &panel.data, panel.width, &mut out.data);
        } else {
            matmul(self.source, &panel.data, panel.width, &mut out.data);
        }
        out
    }

    /// From the long side to the short one.
    pub(crate) fn shorten(&self, panel: &Panel) -> Panel {
        let mut out = Panel::zeros(self.short(), panel.width);
        if self.rows_short {
            matmul(self.source, &panel.data, panel.width, &mut out.data);
        } else {
            matmul_tn(self.source, &panel.data, panel.width, &mut out.data);
        }
        out
    }
}
