//! One weight from its tensors: bytes to numbers, with every number checked.

use std::ops::Range;

use half::{bf16, f16};
use xgraft_block_scale::{BlockShape, Extent, Format, Matrix, QuantizedMatrix, ScaleDtype};
use xgraft_cpu_gemm::Source;

use super::decode::{Element, extend, extend_f32, first_bad_code, first_not_finite};
use super::matrix::WeightMatrix;
use super::store::Store;
use super::stream::Span;
use crate::error::{Error, Result};
use crate::format::dtype::Dtype;
use crate::model::weight::{Stored, TensorInfo, Weight, matrix_shape};

type Hasher<'a> = Option<&'a mut blake3::Hasher>;

/// Some rows of a weight in stored form.
pub(crate) fn rows(
    store: &Store,
    weight: &Weight,
    rows: Range<usize>,
    hasher: Hasher<'_>,
) -> Result<WeightMatrix> {
    let tensor = store.tensor(&weight.tensor)?;
    let run = Run::new(store, tensor, &rows)?;
    match &weight.stored {
        Stored::Plain(_) => run.plain(hasher),
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
            layout
                .load(store, &run, scales, &rows, hasher)
                .map(WeightMatrix::Fp8)
        }
    }
}

/// A whole tensor that stores plain numbers.
pub(crate) fn tensor(
    store: &Store,
    tensor: &TensorInfo,
    hasher: Hasher<'_>,
) -> Result<WeightMatrix> {
    let (rows, _) = matrix_shape(&tensor.shape);
    Run::new(store, tensor, &(0..rows))?.plain(hasher)
}

/// Some rows of a weight as f32.
pub(crate) fn decoded_rows(
    store: &Store,
    weight: &Weight,
    wanted: Range<usize>,
    out: &mut Vec<f32>,
) -> Result<()> {
    out.clear();
    let Stored::Fp8 { block, .. } = &weight.stored else {
        let tensor = store.tensor(&weight.tensor)?;
        return Run::new(store, tensor, &wanted)?.plain_f32(out);
    };
    // The strip starts where a block does; the rows before the wanted ones are not given out.
    let start = match block.rows {
        Extent::Of(n) => wanted.start - wanted.start % n,
        Extent::All => 0,
    };
    let strip = rows(store, weight, start..wanted.end, None)?;
    let cols = strip.cols();
    out.resize(wanted.len() * cols, 0.0);
    strip.pack(wanted.start - start..wanted.end - start, 0..cols, out, cols);
    Ok(())
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

    fn plain(&self, hasher: Hasher<'_>) -> Result<WeightMatrix> {
        let (rows, cols) = (self.rows, self.cols);
        Ok(match self.dtype {
            Dtype::Bf16 => WeightMatrix::Bf16 {
                rows,
                cols,
                data: self.elements::<bf16>(hasher)?,
            },
            Dtype::F16 => WeightMatrix::F16 {
                rows,
                cols,
                data: self.elements::<f16>(hasher)?,
            },
            Dtype::F32 => WeightMatrix::F32(Matrix {
                rows,
                cols,
                data: self.elements::<f32>(hasher)?,
            }),
            Dtype::F64 => {
                let mut data = Vec::with_capacity(rows * cols);
                self.f64_as_f32(hasher, &mut data)?;
                WeightMatrix::F32(Matrix { rows, cols, data })
            }
            _ => return Err(self.not_a_float()),
        })
    }

    fn plain_f32(&self, out: &mut Vec<f32>) -> Result<()> {
        match self.dtype {
            Dtype::Bf16 => self.checked::<bf16>(None, |chunk| extend_f32(out, chunk, bf16::to_f32)),
            Dtype::F16 => self.checked::<f16>(None, |chunk| extend_f32(out, chunk, f16::to_f32)),
            Dtype::F32 => self.checked::<f32>(None, |chunk| extend(out, chunk)),
            Dtype::F64 => self.f64_as_f32(None, out),
            _ => Err(self.not_a_float()),
        }
    }

    fn elements<T: Element>(&self, hasher: Hasher<'_>) -> Result<Vec<T>> {
        let mut data = Vec::with_capacity(self.rows * self.cols);
        self.checked::<T>(hasher, |chunk| extend(&mut data, chunk))?;
        Ok(data)
    }

    /// Doubles rounded to f32; one that is too large for f32 counts as infinite.
    fn f64_as_f32(&self, hasher: Hasher<'_>, out: &mut Vec<f32>) -> Result<()> {
        self.checked::<f64>(hasher, |chunk| extend_f32(out, chunk, |x: f64| x as f32))?;
        match out.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(self.not_finite(at, "a number beyond f32".to_owned())),
            None => Ok(()),
        }
    }

    /// Streams the run; each chunk is checked to be finite before `take` sees it.
    fn checked<T: Element>(&self, hasher: Hasher<'_>, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut seen = 0;
        self.span.stream(hasher, |chunk| {
            if let Some((at, found)) = first_not_finite::<T>(chunk) {
                return Err(self.not_finite(seen + at, found));
            }
            seen += chunk.len() / T::BYTES;
            take(chunk);
            Ok(())
        })
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
        scales: &TensorInfo,
        rows: &Range<usize>,
        mut hasher: Hasher<'_>,
    ) -> Result<QuantizedMatrix> {
        let mut codes = Vec::with_capacity(run.rows * run.cols);
        run.span.stream(hasher.as_deref_mut(), |chunk| {
            if let Some((at, found)) = first_bad_code(chunk, self.format) {
                return Err(run.not_finite(codes.len() + at, found));
            }
            codes.extend_from_slice(chunk);
            Ok(())
        })?;
        let scales = self.scales(store, scales, rows, run.cols, hasher)?;
        Ok(QuantizedMatrix {
            rows: run.rows,
            cols: run.cols,
            format: self.format,
            block: self.block,
            codes,
            scales,
        })
    }

    /// The scales of `rows`, which must start where a block does.
    fn scales(
        &self,
        store: &Store,
        tensor: &TensorInfo,
        rows: &Range<usize>,
        cols: usize,
        hasher: Hasher<'_>,
    ) -> Result<Vec<f32>> {
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
        span.stream(hasher, |chunk| {
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
            None => Ok(scales),
        }
    }
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
