//! One weight from its tensors: bytes to numbers, with every number checked.

use std::ops::Range;

use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use xgraft_block_scale::{BlockShape, Extent, Format, Matrix, QuantizedMatrix, ScaleDtype};
use xgraft_cpu_gemm::Source;

use super::decode::{BF16, Bits, F16, F32, F64, Finite, codes};
use super::grouped;
use super::matrix::WeightMatrix;
use super::store::Store;
use super::stream::{Hash, Span};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::format::dtype::Dtype;
use crate::model::weight::{Stored, TensorInfo, Weight, matrix_shape};
use crate::sys::prefer_large_pages;

/// Some rows of a weight in stored form; with the digest of each tensor's bytes, if asked for.
pub(crate) fn rows(
    store: &Store,
    weight: &Weight,
    rows: Range<usize>,
    hash: Hash,
) -> Result<(WeightMatrix, Vec<Digest>)> {
    let run = || Run::new(store, store.tensor(&weight.tensor)?, &rows);
    match &weight.stored {
        Stored::Plain(_) => {
            let run = run()?;
            let (matrix, digest) = run.plain(hash)?;
            Ok((matrix, digest.into_iter().collect()))
        }
        Stored::Fp8 {
            format,
            block,
            scale,
            scale_tensor,
        } => {
            let scales = store.tensor(scale_tensor)?;
            let layout = Fp8 {
                format: *format,
                block: *block,
                scale: *scale,
            };
            layout.load(store, &run()?, scales, &rows, hash)
        }
        Stored::Grouped(stored) => {
            check_range(&rows, weight.matrix_shape().0);
            let (matrix, digests) = grouped::rows(store, weight, stored, rows, hash)?;
            Ok((WeightMatrix::Grouped(matrix), digests))
        }
    }
}

/// A whole tensor that stores plain numbers, with the digest of its bytes.
pub(crate) fn tensor(store: &Store, tensor: &TensorInfo) -> Result<(WeightMatrix, Digest)> {
    let (rows, _) = matrix_shape(&tensor.shape);
    let (matrix, digest) = Run::new(store, tensor, &(0..rows))?.plain(Hash::Yes)?;
    Ok((matrix, Digest::of_all(digest.as_slice())))
}

/// Some rows of a weight as f32.
pub(crate) fn decoded_rows(
    store: &Store,
    weight: &Weight,
    wanted: Range<usize>,
    out: &mut Vec<f32>,
) -> Result<()> {
    // The strip starts where a block does; the rows before the wanted ones are not given out.
    let start = match &weight.stored {
        Stored::Plain(_) => {
            let tensor = store.tensor(&weight.tensor)?;
            return Run::new(store, tensor, &wanted)?.plain_f32(out);
        }
        Stored::Grouped(_) => wanted.start,
        Stored::Fp8 { block, .. } => match block.rows {
            Extent::Of(n) => wanted.start - wanted.start % n,
            Extent::All => 0,
        },
    };
    let (strip, _) = rows(store, weight, start..wanted.end, Hash::No)?;
    let cols = strip.cols();
    out.clear();
    out.resize(wanted.len() * cols, 0.0);
    strip.pack(wanted.start - start..wanted.end - start, 0..cols, out, cols);
    Ok(())
}

/// All scales of a weight of FP8 codes.
pub(crate) fn scales(store: &Store, weight: &Weight) -> Result<Vec<f32>> {
    let Stored::Fp8 {
        format,
        block,
        scale,
        scale_tensor,
    } = &weight.stored
    else {
        return Ok(Vec::new());
    };
    let layout = Fp8 {
        format: *format,
        block: *block,
        scale: *scale,
    };
    let (rows, cols) = weight.matrix_shape();
    let tensor = store.tensor(scale_tensor)?;
    layout
        .scales(store, tensor, &(0..rows), cols)
        .map(|(scales, _)| scales)
}

/// Consecutive rows of one tensor, about to be read.
struct Run<'a> {
    span: Span<'a>,
    dtype: Dtype,
    first_row: usize,
    rows: usize,
    cols: usize,
}

impl<'a> Run<'a> {
    fn new(store: &'a Store, tensor: &'a TensorInfo, range: &Range<usize>) -> Result<Run<'a>> {
        let (rows, cols) = matrix_shape(&tensor.shape);
        check_range(range, rows);
        let row_bytes = (cols * tensor.dtype.bytes()) as u64;
        let part = (
            range.start as u64 * row_bytes,
            range.len() as u64 * row_bytes,
        );
        let span = store.span(tensor)?.part(part.0, part.1);
        Ok(Run {
            span,
            dtype: tensor.dtype,
            first_row: range.start,
            rows: range.len(),
            cols,
        })
    }

    fn plain(&self, hash: Hash) -> Result<(WeightMatrix, Option<Digest>)> {
        let (rows, cols) = (self.rows, self.cols);
        match self.dtype {
            Dtype::Bf16 => {
                let (bits, digest) = self.new_elements(BF16, |bits| bits, hash)?;
                Ok((
                    WeightMatrix::Bf16 {
                        rows,
                        cols,
                        data: bits.reinterpret_into(),
                    },
                    digest,
                ))
            }
            Dtype::F16 => {
                let (bits, digest) = self.new_elements(F16, |bits| bits, hash)?;
                Ok((
                    WeightMatrix::F16 {
                        rows,
                        cols,
                        data: bits.reinterpret_into(),
                    },
                    digest,
                ))
            }
            Dtype::F32 => {
                let (data, digest) = self.new_elements(F32, f32::from_bits, hash)?;
                Ok((WeightMatrix::F32(Matrix { rows, cols, data }), digest))
            }
            Dtype::F64 => {
                let (data, digest) = self.new_elements(F64, narrow, hash)?;
                self.check_narrowed(&data)?;
                Ok((WeightMatrix::F32(Matrix { rows, cols, data }), digest))
            }
            _ => Err(self.not_a_float()),
        }
    }

    fn plain_f32(&self, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        out.resize(self.rows * self.cols, 0.0);
        match self.dtype {
            Dtype::Bf16 => self.elements(out, BF16, |b| bf16::from_bits(b).to_f32(), Hash::No)?,
            Dtype::F16 => self.elements(out, F16, |b| f16::from_bits(b).to_f32(), Hash::No)?,
            Dtype::F32 => self.elements(out, F32, f32::from_bits, Hash::No)?,
            Dtype::F64 => self.elements(out, F64, narrow, Hash::No)?,
            _ => return Err(self.not_a_float()),
        };
        self.check_narrowed(out)
    }

    fn new_elements<B: Bits, T: Copy + Default + Send>(
        &self,
        finite: Finite<B>,
        convert: impl Fn(B) -> T + Sync,
        hash: Hash,
    ) -> Result<(Vec<T>, Option<Digest>)> {
        // Zeroed by the system and touched first by the thread that fills it.
        let mut out = vec![T::default(); self.rows * self.cols];
        prefer_large_pages(&mut out);
        let digest = self.elements(&mut out, finite, convert, hash)?;
        Ok((out, digest))
    }

    /// Reads the run into `out`; each chunk is checked to be finite before it is converted.
    fn elements<B: Bits, T: Send>(
        &self,
        out: &mut [T],
        finite: Finite<B>,
        convert: impl Fn(B) -> T + Sync,
        hash: Hash,
    ) -> Result<Option<Digest>> {
        self.span.fill(out, B::BYTES, hash, |first, chunk, place| {
            if let Some((at, found)) = finite.first_other(chunk) {
                return Err(self.not_finite(first + at, found.to_owned()));
            }
            B::convert(chunk, place, &convert);
            Ok(())
        })
    }

    /// A double that is too large for f32 counts as infinite.
    fn check_narrowed(&self, numbers: &[f32]) -> Result<()> {
        if self.dtype != Dtype::F64 {
            return Ok(());
        }
        match numbers.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(self.not_finite(at, "a number beyond f32".to_owned())),
            None => Ok(()),
        }
    }

    fn not_finite(&self, element: usize, found: String) -> Error {
        Error::NotFinite {
            file: self.span.path.to_owned(),
            tensor: self.span.tensor.to_owned(),
            row: self.first_row + element / self.cols,
            column: element % self.cols,
            found,
        }
    }

    fn not_a_float(&self) -> Error {
        Error::Tensor {
            file: self.span.path.to_owned(),
            tensor: self.span.tensor.to_owned(),
            expected: "floating-point weights".to_owned(),
            found: self.dtype.to_string(),
        }
    }
}

fn narrow(bits: u64) -> f32 {
    f64::from_bits(bits) as f32
}

/// How one weight's codes and scales go together.
struct Fp8 {
    format: Format,
    block: BlockShape,
    scale: ScaleDtype,
}

impl Fp8 {
    fn load(
        &self,
        store: &Store,
        run: &Run<'_>,
        tensor: &TensorInfo,
        rows: &Range<usize>,
        hash: Hash,
    ) -> Result<(WeightMatrix, Vec<Digest>)> {
        let (codes, of_codes) = run.new_elements(codes(self.format), |code| code, hash)?;
        let (scales, of_scales) = self.scales(store, tensor, rows, run.cols)?;
        let matrix = QuantizedMatrix {
            rows: run.rows,
            cols: run.cols,
            format: self.format,
            block: self.block,
            codes,
            scales,
        };
        if let Some((row, column)) = hiding_scale(&matrix) {
            let grid_cols = matrix.block.grid(matrix.rows, matrix.cols).1;
            let scale = matrix.scales[row * grid_cols + column];
            let row = row + rows.start / self.block.rows.size(usize::MAX);
            return Err(Error::Quantized {
                file: store.paths[tensor.shard].clone(),
                tensor: tensor.name.clone(),
                expected: "a scale above 0".to_owned(),
                found: format!("{scale} at row {row}, column {column}"),
            });
        }
        Ok((
            WeightMatrix::Fp8(matrix),
            of_codes.into_iter().chain([of_scales]).collect(),
        ))
    }

    /// The scales of `rows`, which must start where a block does.
    fn scales(
        &self,
        store: &Store,
        tensor: &TensorInfo,
        rows: &Range<usize>,
        cols: usize,
    ) -> Result<(Vec<f32>, Digest)> {
        let grid_rows = match self.block.rows {
            Extent::Of(n) => {
                check_start(rows, n.get());
                rows.start / n..rows.end.div_ceil(n.get())
            }
            Extent::All => 0..1,
        };
        let grid_cols = self.block.grid(1, cols).1;
        let width = tensor.dtype.bytes();
        let part = (
            grid_rows.start * grid_cols * width,
            grid_rows.len() * grid_cols * width,
        );
        let span = store.span(tensor)?.part(part.0 as u64, part.1 as u64);
        let mut scales = Vec::with_capacity(grid_rows.len() * grid_cols);
        let digest = span.stream(|chunk| {
            scales.extend(self.scale.read(chunk));
            Ok(())
        })?;
        // A scale may be finite and still make its largest code infinite.
        match scales
            .iter()
            .position(|s| !(s * self.format.max()).is_finite())
        {
            Some(at) => Err(Error::NotFinite {
                file: span.path.to_owned(),
                tensor: span.tensor.to_owned(),
                row: grid_rows.start + at / grid_cols,
                column: at % grid_cols,
                found: format!("the scale {}", scales[at]),
            }),
            None => Ok((scales, digest)),
        }
    }
}

/// Row and column in the grid of the first scale that no tool writes: below 0, or 0 over codes that are not all 0.
fn hiding_scale(matrix: &QuantizedMatrix) -> Option<(usize, usize)> {
    let (rows, cols) = (matrix.rows, matrix.cols);
    let (height, width) = (matrix.block.rows.size(rows), matrix.block.cols.size(cols));
    let grid_cols = matrix.block.grid(rows, cols).1;
    let suspect = matrix
        .scales
        .iter()
        .enumerate()
        .filter(|(_, scale)| **scale <= 0.0);
    let hides = |(at, scale): (usize, &f32)| {
        let (row, column) = (at / grid_cols, at % grid_cols);
        let columns = column * width..cols.min((column + 1) * width);
        let mut lines = row * height..rows.min((row + 1) * height);
        let codes = lines.any(|line| {
            let codes = &matrix.codes[line * cols..][columns.clone()];
            codes.iter().any(|code| code & 0x7f != 0)
        });
        (*scale < 0.0 || codes).then_some((row, column))
    };
    suspect.filter_map(hides).next()
}

fn check_range(range: &Range<usize>, rows: usize) {
    assert!(
        range.start <= range.end && range.end <= rows,
        "rows {range:?} of {rows}"
    );
}

fn check_start(range: &Range<usize>, block: usize) {
    assert!(
        range.start.is_multiple_of(block),
        "rows {range:?} start inside a block of {block} rows"
    );
}
