//! The numbers of one weight, decoded tile by tile from stored bytes without a check: NaN is what is looked for.

use std::ops::Range;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use xgraft_block_scale::{BlockShape, Format};
use xgraft_checkpoint::{Checkpoint, Dtype, Stored, TensorInfo, Weight, WeightMatrix, Window};
use xgraft_cpu_gemm::Source as _;
use xgraft_fp8_codec::{Codec, Rows, RowsMut};

use crate::arch::{BF16_LANES, Bf16Lanes, Isa};
use crate::error::Result;

/// Rows and columns of a block: the unit in which statistics are kept.
pub(crate) const BLOCK: usize = 128;

/// Rows of a tile, which is what is decoded at once.
pub(crate) const TILE_ROWS: usize = 32;

/// The most numbers of a tile.
pub(crate) const TILE: usize = TILE_ROWS * BLOCK;

/// A weight that can be read in strips of rows.
///
/// **Shapes** `[rows, cols]`: a vector is one row, leading dimensions are folded into the rows.
pub(crate) struct Numbers<'a> {
    pub(crate) isa: Isa,
    checkpoint: &'a Checkpoint,
    form: Form<'a>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

enum Form<'a> {
    /// F64, F32, F16 or BF16.
    Plain(&'a TensorInfo),
    /// Codes, and the scales of the whole matrix in its block's grid.
    Fp8 {
        codes: &'a TensorInfo,
        format: Format,
        block: BlockShape,
        scales: Vec<f32>,
    },
    /// Codes that lie across rows in their files and that only `checkpoint` can unpack: read once, a byte a number.
    Unpacked(WeightMatrix),
}

/// Some rows of a weight as they are stored.
pub(crate) struct Strip {
    first_row: usize,
    /// Nothing for codes that are in memory already.
    bytes: Option<Window>,
}

impl Strip {
    fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

/// How many of a set of scales cannot be meant.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadScales {
    pub(crate) scales: u64,
    pub(crate) zero: u64,
    pub(crate) negative: u64,
    pub(crate) not_finite: u64,
    /// Place of the first in the grid.
    pub(crate) first: Option<[usize; 2]>,
}

impl BadScales {
    pub(crate) fn count(&self) -> u64 {
        self.zero + self.negative + self.not_finite
    }
}

impl<'a> Numbers<'a> {
    /// The numbers of a weight; `None` if it holds integers.
    ///
    /// # Errors
    /// Files that cannot be read, and packed codes and scales that do not stand for numbers.
    pub(crate) fn open(checkpoint: &'a Checkpoint, weight: &'a Weight) -> Result<Option<Self>> {
        let tensors = checkpoint.stored_tensors(weight)?;
        let (mut rows, mut cols) = folded(&weight.shape);
        let form = if let Stored::Plain(dtype) = weight.stored {
            if !dtype.is_float() {
                return Ok(None);
            }
            Form::Plain(tensors[0])
        } else if let Stored::Fp8 {
            format,
            block,
            scale,
            ..
        } = weight.stored
        {
            let mut bytes = Vec::new();
            checkpoint.read_bytes(tensors[1], 0..tensors[1].bytes, &mut bytes)?;
            Form::Fp8 {
                codes: tensors[0],
                format,
                block,
                scales: scale.read(&bytes),
            }
        } else {
            (rows, cols) = weight.matrix_shape();
            Form::Unpacked(checkpoint.load_rows(weight, 0..rows)?)
        };
        Ok(Some(Self {
            isa: Isa::best(),
            checkpoint,
            form,
            rows,
            cols,
        }))
    }

    fn element_bytes(&self) -> usize {
        match &self.form {
            Form::Plain(tensor) => tensor.dtype.bytes(),
            Form::Fp8 { .. } | Form::Unpacked(_) => 1,
        }
    }

    /// Some rows, which are let go with the strip.
    pub(crate) fn strip(&self, rows: &Range<usize>) -> Result<Strip> {
        let row_bytes = (self.cols * self.element_bytes()) as u64;
        let range = rows.start as u64 * row_bytes..rows.end as u64 * row_bytes;
        let bytes = match &self.form {
            // A map of nothing is an error to some systems.
            _ if range.is_empty() => None,
            Form::Plain(tensor) | Form::Fp8 { codes: tensor, .. } => {
                Some(self.checkpoint.window(tensor, range)?)
            }
            Form::Unpacked(_) => None,
        };
        Ok(Strip {
            first_row: rows.start,
            bytes,
        })
    }

    /// Gives the rows of a tile to `work` as they are stored, if that is BF16 and the tile has whole lanes.
    pub(crate) fn with_bf16<T>(
        &self,
        strip: &Strip,
        rows: &Range<usize>,
        cols: &Range<usize>,
        work: impl FnOnce(&[&[Bf16Lanes]]) -> T,
    ) -> Option<T> {
        let bf16 = matches!(&self.form, Form::Plain(tensor) if tensor.dtype == Dtype::Bf16);
        if !bf16 || !cols.len().is_multiple_of(BF16_LANES) {
            return None;
        }
        let mut tile = [&[][..]; TILE_ROWS];
        for (row, slot) in rows.clone().zip(&mut tile) {
            let start = 2 * ((row - strip.first_row) * self.cols + cols.start);
            *slot = strip.bytes()[start..start + 2 * cols.len()].as_chunks().0;
        }
        Some(work(&tile[..rows.len()]))
    }

    /// Decodes a tile of a strip.
    ///
    /// **Shapes** `out` `[rows.len(), cols.len()]`, at most `[TILE_ROWS, BLOCK]`.
    pub(crate) fn tile(
        &self,
        strip: &Strip,
        rows: Range<usize>,
        cols: Range<usize>,
        out: &mut [f32],
    ) {
        let width = cols.len();
        let start = |row: usize| (row - strip.first_row) * self.cols + cols.start;
        match &self.form {
            Form::Plain(tensor) => {
                let size = tensor.dtype.bytes();
                for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
                    let bytes = &strip.bytes()[start(row) * size..(start(row) + width) * size];
                    decode(self.isa, tensor.dtype, bytes, out);
                }
            }
            Form::Fp8 {
                format,
                block,
                scales,
                ..
            } => {
                let codes = &strip.bytes()[start(rows.start)..start(rows.end - 1) + width];
                Codec::best().decode_f32(
                    *format,
                    Rows::new(codes, width, self.cols),
                    RowsMut::new(out, width, width),
                );
                let grid_cols = block.cols.blocks(self.cols);
                let step = block.cols.size(self.cols);
                for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
                    let grid_row = row / block.rows.size(self.rows) * grid_cols;
                    let mut at = cols.start;
                    let mut rest = out;
                    while !rest.is_empty() {
                        let run = (step - at % step).min(rest.len());
                        let (now, later) = rest.split_at_mut(run);
                        let scale = scales[grid_row + at / step];
                        self.isa.scale(now, scale);
                        at += run;
                        rest = later;
                    }
                }
            }
            Form::Unpacked(matrix) => matrix.pack(rows, cols, out, width),
        }
    }

    /// Whether the numbers are stored as codes with scales.
    pub(crate) fn has_codes(&self) -> bool {
        !matches!(self.form, Form::Plain(_))
    }

    /// How many codes of a tile are the largest of their format, of either sign; zero where there are no codes.
    pub(crate) fn saturated(&self, strip: &Strip, rows: Range<usize>, cols: &Range<usize>) -> u64 {
        let format = match &self.form {
            Form::Fp8 { format, .. } => format,
            Form::Unpacked(WeightMatrix::Grouped(matrix)) => {
                let last = (matrix.levels.count() - 1) as u8;
                let ends = |code: &&u8| **code == 0 || **code == last;
                let of_row = |row: usize| {
                    let codes = &matrix.codes[row * self.cols..][cols.clone()];
                    codes.iter().filter(ends).count() as u64
                };
                return rows.map(of_row).sum();
            }
            _ => return 0,
        };
        let largest = match format {
            Format::E4m3 => 0x7e,
            Format::E5m2 => 0x7b,
        };
        rows.map(|row| {
            let start = (row - strip.first_row) * self.cols + cols.start;
            let codes = &strip.bytes()[start..start + cols.len()];
            self.isa.count_magnitude(codes, largest)
        })
        .sum()
    }

    /// The scales that cannot be meant; `None` where there are no codes.
    pub(crate) fn bad_scales(&self) -> Option<BadScales> {
        let Form::Fp8 { block, scales, .. } = &self.form else {
            return None;
        };
        let grid_cols = block.cols.blocks(self.cols).max(1);
        let mut bad = BadScales {
            scales: scales.len() as u64,
            ..BadScales::default()
        };
        for (at, &scale) in scales.iter().enumerate() {
            let counter = match scale {
                s if !s.is_finite() => &mut bad.not_finite,
                s if s < 0.0 => &mut bad.negative,
                0.0 => &mut bad.zero,
                _ => continue,
            };
            *counter += 1;
            bad.first.get_or_insert([at / grid_cols, at % grid_cols]);
        }
        Some(bad)
    }
}

/// All but the last dimension folded into the rows, so that no row is larger than it must be.
fn folded(shape: &[usize]) -> (usize, usize) {
    match *shape {
        [] => (1, 1),
        [ref rest @ .., cols] => (rest.iter().product(), cols),
    }
}

/// Decodes at most [`BLOCK`] numbers.
fn decode(isa: Isa, dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::Bf16 => isa.widen_bf16(bytes, out),
        Dtype::F16 => {
            let mut bits = [0u16; BLOCK];
            for (bits, b) in bits.iter_mut().zip(bytes.as_chunks().0) {
                *bits = u16::from_le_bytes(*b);
            }
            bits[..out.len()]
                .reinterpret_cast::<f16>()
                .convert_to_f32_slice(out);
        }
        Dtype::F64 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *x = f64::from_le_bytes(*b) as f32;
            }
        }
        _ => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plain_type_decodes_to_its_numbers() {
        let numbers: Vec<f32> = (0..BLOCK).map(|i| i as f32 - 64.0).collect();
        let bytes = |f: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|x| f(*x)).collect();
        let cases: [(Dtype, Vec<u8>); 4] = [
            (Dtype::F32, bytes(&|x| x.to_le_bytes().to_vec())),
            (Dtype::F64, bytes(&|x| f64::from(x).to_le_bytes().to_vec())),
            (
                Dtype::F16,
                bytes(&|x| f16::from_f32(x).to_le_bytes().to_vec()),
            ),
            (
                Dtype::Bf16,
                bytes(&|x| half::bf16::from_f32(x).to_le_bytes().to_vec()),
            ),
        ];
        for (dtype, bytes) in cases {
            let mut out = vec![0.0; BLOCK];
            decode(Isa::best(), dtype, &bytes, &mut out);
            assert_eq!(out, numbers, "{dtype}");
        }
    }

    #[test]
    fn dimensions_but_the_last_are_rows() {
        assert_eq!(folded(&[8, 300, 20]), (2400, 20));
        assert_eq!(folded(&[7]), (1, 7));
        assert_eq!(folded(&[]), (1, 1));
    }
}
