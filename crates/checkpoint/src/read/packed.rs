//! Grouped integers as their tensors store them, decoded row by row: codes are in memory once, and never a byte each.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;
use xgraft_block_scale::{GroupedMatrix, Result};
use xgraft_int_codec::{Codec, Groups, Order, unpack};

use super::grouped::{Packed, unpack_grouped};
use crate::model::packing::{Packing, StoredGroups};

/// Elements that a thread decodes at a time, at least.
const PART: usize = 1 << 14;

/// A matrix of grouped integers whose codes stay packed where the layout keeps rows apart, and are unpacked where it does not.
///
/// **Shapes** `[rows, cols]`.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    /// Without codes where `lines` holds them.
    matrix: GroupedMatrix,
    lines: Option<Lines>,
}

/// Rows of codes as a file stores them.
#[derive(Debug, Clone)]
struct Lines {
    bytes: Vec<u8>,
    width: usize,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// A byte each, two's complement.
    Signed,
    /// A byte each, offset binary.
    Unsigned,
    /// Two to a byte, offset binary.
    Nibbles,
}

impl PackedMatrix {
    /// The matrix `[rows, cols]` whose tensors these bytes are, in the order of [`pack_grouped`](crate::pack_grouped).
    ///
    /// # Errors
    /// As [`unpack_grouped`](crate::unpack_grouped).
    pub fn new(
        stored: &StoredGroups,
        (rows, cols): (usize, usize),
        mut tensors: Vec<Vec<u8>>,
    ) -> Result<Self> {
        let width = stored.row_bytes(cols);
        let form = match (stored.packing, stored.bits) {
            (Packing::Bytes, 8) => Some(Form::Signed),
            (Packing::Rows, 8) => Some(Form::Unsigned),
            (Packing::Rows, 4) => Some(Form::Nibbles),
            _ => None,
        };
        let fits = rows * cols > 0 && tensors.first().is_some_and(|c| c.len() == rows * width);
        let Some(form) = form.filter(|_| fits && stored.parts.groups_of.is_none()) else {
            let matrix = unpack_grouped(stored, (rows, cols), &tensors)?;
            return Ok(Self {
                matrix,
                lines: None,
            });
        };
        let groups = stored.group.blocks(cols);
        let packed = Packed {
            stored,
            out: rows,
            inner: cols,
            groups,
        };
        let scales = tensors.get(1).map_or(&[][..], Vec::as_slice);
        let zeros = tensors.get(2).filter(|_| stored.parts.zeros.is_some());
        let matrix = GroupedMatrix {
            rows,
            cols,
            levels: stored.levels(),
            group: stored.group,
            codes: Vec::new(),
            scales: packed.scales(scales),
            zeros: zeros.map(|bytes| packed.zeros(bytes)),
            groups_of: None,
        };
        let lines = Lines {
            bytes: std::mem::take(&mut tensors[0]),
            width,
            form,
        };
        Ok(Self {
            matrix: matrix.checked_without_codes()?,
            lines: Some(lines),
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.matrix.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.matrix.cols
    }

    /// Some rows, each element rounded to BF16 once: the numbers of [`GroupedMatrix::to_f32`], rounded to nearest even.
    ///
    /// Rows are shared out to rayon's current pool; the result does not depend on it.
    ///
    /// **Shapes** `out` `[rows.len(), cols]`, row-major.
    ///
    /// # Panics
    /// If `rows` leaves the matrix or `out` has another length.
    pub fn decode_bf16(&self, rows: Range<usize>, out: &mut [bf16]) {
        let cols = self.matrix.cols;
        assert!(rows.end <= self.matrix.rows, "rows {rows:?}");
        assert_eq!(out.len(), rows.len() * cols, "elements of {rows:?}");
        let Some(lines) = &self.lines else {
            return self.matrix.decode_bf16(rows, out);
        };
        out.par_chunks_mut(cols)
            .enumerate()
            .with_min_len(PART.div_ceil(cols))
            .for_each_init(Vec::new, |scratch, (i, out)| {
                let row = rows.start + i;
                let groups = self.groups(row, lines.form);
                Codec::best().decode_bf16(groups, lines.codes(row, cols, scratch), out);
            });
    }

    fn groups(&self, row: usize, form: Form) -> Groups<'_> {
        let matrix = &self.matrix;
        let count = matrix.group.blocks(matrix.cols);
        let range = row * count..(row + 1) * count;
        Groups {
            bits: matrix.levels.bits(),
            size: matrix.group.size(matrix.cols),
            scales: &matrix.scales[range.clone()],
            zeros: matrix.zeros.as_ref().map(|zeros| &zeros[range]),
            signed: matches!(form, Form::Signed),
        }
    }
}

/// The scales, zero points and shape; codes only where they are unpacked.
impl AsRef<GroupedMatrix> for PackedMatrix {
    fn as_ref(&self) -> &GroupedMatrix {
        &self.matrix
    }
}

impl Lines {
    /// The codes of a row, a byte each; `scratch` is where they are unpacked.
    fn codes<'a>(&'a self, row: usize, cols: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let line = &self.bytes[row * self.width..][..self.width];
        if let Form::Nibbles = self.form {
            scratch.resize(cols, 0);
            unpack(line, Order::Natural, scratch);
            return scratch;
        }
        &line[..cols]
    }
}
