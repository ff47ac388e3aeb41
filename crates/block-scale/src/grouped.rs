//! Matrices whose codes are small integers or levels of a table, with a scale and perhaps a zero point for each group of a row.

use std::ops::Range;

use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use rayon::prelude::*;
use xgraft_cpu_gemm::{Source, assert_rectangle};
use xgraft_int_codec::{Codec, Groups};

use crate::{Error, Extent, Levels, Result};

/// Codes with the scales and zero points of their groups.
///
/// **Shapes** a `[rows, cols]` matrix; a group is so many consecutive elements of a row, `G = group.blocks(cols)` of them.
/// An element is `(code - zero) × scale` where the levels are integers, else `table[code] × scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupedMatrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// What a code means.
    pub levels: Levels,
    /// Elements of a group.
    pub group: Extent,
    /// Codes, row by row, one byte each.
    pub codes: Vec<u8>,
    /// Scales, `[rows, G]`.
    pub scales: Vec<f32>,
    /// Zero points, `[rows, G]`; none where they all are the middle of the range.
    pub zeros: Option<Vec<u8>>,
    /// For each column the group that it belongs to, where that is not its position (GPTQ's `g_idx` after sorting by
    /// activation). Below `G`.
    pub groups_of: Option<Vec<u32>>,
}

impl GroupedMatrix {
    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`Error::Count`] for a number of codes, scales, zero points or group indices that the shape does not give,
    /// [`Error::Group`] for an index beyond the last group, [`Error::Scale`] for a scale that is NaN or infinite.
    pub fn checked(self) -> Result<Self> {
        let codes = self.codes.len();
        self.checked_with(codes)
    }

    /// [`Self::checked`] of a matrix whose codes are elsewhere.
    ///
    /// # Errors
    /// As [`Self::checked`], but for the number of codes.
    pub fn checked_without_codes(self) -> Result<Self> {
        let codes = self.rows * self.cols;
        self.checked_with(codes)
    }

    fn checked_with(self, codes: usize) -> Result<Self> {
        let (rows, cols, groups) = (self.rows, self.cols, self.group.blocks(self.cols));
        let check = |what, expected: usize, found: usize| {
            if expected == found {
                return Ok(());
            }
            Err(Error::Count {
                what,
                rows,
                cols,
                expected,
                found,
            })
        };
        check("codes", rows * cols, codes)?;
        check("scales", rows * groups, self.scales.len())?;
        if let Some(zeros) = &self.zeros {
            check("zero points", rows * groups, zeros.len())?;
        }
        if let Some(groups_of) = &self.groups_of {
            check("group indices", cols, groups_of.len())?;
            if let Some(at) = groups_of.iter().position(|g| *g as usize >= groups) {
                let group = groups_of[at] as usize;
                return Err(Error::Group {
                    column: at,
                    group,
                    groups,
                });
            }
        }
        match self.scales.iter().position(|s| !s.is_finite()) {
            Some(at) => Err(Error::Scale {
                block_row: at / groups,
                block_col: at % groups,
                value: self.scales[at],
            }),
            None => Ok(self),
        }
    }

    /// All elements, row by row.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        if self.cols > 0 {
            out.par_chunks_mut(self.cols)
                .enumerate()
                .with_min_len((1_usize << 14).div_ceil(self.cols))
                .for_each(|(row, out)| self.decode(row, 0..self.cols, out));
        }
        out
    }

    /// Some rows, each element rounded to BF16 once.
    ///
    /// **Shapes** `out` `[rows.len(), cols]`.
    ///
    /// # Panics
    /// If `rows` leaves the matrix or `out` has another length.
    pub fn decode_bf16(&self, rows: Range<usize>, out: &mut [bf16]) {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert_eq!(out.len(), rows.len() * self.cols, "elements of {rows:?}");
        if self.cols == 0 {
            return;
        }
        let line = || vec![0.0; self.cols];
        out.par_chunks_mut(self.cols)
            .enumerate()
            .with_min_len((1_usize << 14).div_ceil(self.cols))
            .for_each_init(line, |line, (i, out)| {
                let row = rows.start + i;
                if let (Levels::Int(bits), None) = (self.levels, &self.groups_of) {
                    let (groups, codes) = self.integers(bits, row, 0..self.cols);
                    Codec::best().decode_bf16(groups, codes, out);
                } else {
                    self.decode(row, 0..self.cols, line);
                    out.convert_from_f32_slice(line);
                }
            });
    }

    /// Some elements of a row.
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        if let Some(groups_of) = &self.groups_of {
            return self.decode_sorted(row, cols, groups_of, out);
        }
        // The rest of a group that has begun before, and then whole groups.
        let size = self.group.size(self.cols);
        let head = cols.start.next_multiple_of(size).min(cols.end);
        let (of_head, of_rest) = out.split_at_mut(head - cols.start);
        for (cols, out) in [(cols.start..head, of_head), (head..cols.end, of_rest)] {
            if let Levels::Int(bits) = self.levels {
                let (groups, codes) = self.integers(bits, row, cols);
                Codec::best().decode_f32(groups, codes, out);
                continue;
            }
            let (codes, groups) = self.part(row, cols);
            let parts = codes.chunks(size).zip(out.chunks_mut(size));
            for ((codes, out), scale) in parts.zip(&self.scales[groups]) {
                self.levels.look_up(codes, *scale, out);
            }
        }
    }

    /// [`Self::decode`] where each column says which group is its own.
    fn decode_sorted(&self, row: usize, cols: Range<usize>, groups_of: &[u32], out: &mut [f32]) {
        let first = row * self.group.blocks(self.cols);
        let codes = &self.codes[row * self.cols..][cols.clone()];
        for ((out, code), group) in out.iter_mut().zip(codes).zip(&groups_of[cols]) {
            let at = first + *group as usize;
            let zeros = self.zeros.as_ref();
            let zero = zeros.map_or(self.levels.middle(), |zeros| zeros[at]);
            *out = self.levels.value(*code, zero) * self.scales[at];
        }
    }

    /// Codes of a row, and scales and zero points of their groups: `cols` begins with a group or lies within one.
    fn integers(&self, bits: u8, row: usize, cols: Range<usize>) -> (Groups<'_>, &[u8]) {
        let (codes, groups) = self.part(row, cols);
        let groups = Groups {
            bits,
            size: self.group.size(self.cols),
            scales: &self.scales[groups.clone()],
            zeros: self.zeros.as_ref().map(|zeros| &zeros[groups]),
            signed: false,
        };
        (groups, codes)
    }

    /// Codes of a row, and which groups are theirs.
    fn part(&self, row: usize, cols: Range<usize>) -> (&[u8], Range<usize>) {
        let (first, size) = (
            row * self.group.blocks(self.cols),
            self.group.size(self.cols),
        );
        let end = if cols.is_empty() {
            cols.start / size
        } else {
            cols.end.div_ceil(size)
        };
        let groups = first + cols.start / size..first + end;
        (&self.codes[row * self.cols..][cols], groups)
    }
}

impl AsRef<Self> for GroupedMatrix {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Source for GroupedMatrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn pack(&self, rows: Range<usize>, cols: Range<usize>, dst: &mut [f32], ld: usize) {
        assert_rectangle((self.rows, self.cols), &rows, &cols, dst.len(), ld);
        if cols.is_empty() {
            return;
        }
        for (row, dst) in rows.zip(dst.chunks_mut(ld)) {
            self.decode(row, cols.clone(), &mut dst[..cols.len()]);
        }
    }
}
