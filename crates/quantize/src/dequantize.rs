//! A quantized checkpoint into the BF16 one that it stands for.

use std::cell::RefCell;
use std::ops::Range;

use half::bf16;
use xgraft_block_scale::dequantize_rows;
use xgraft_checkpoint::{
    Checkpoint, Digest, Dtype, Fate, OutputDir, PackedMatrix, PlannedTensor, Quantization, Rewrite,
    RewriteEvent, Rewritten, Sink, Weight, WeightMatrix, rewrite,
};

use crate::config::Config;
use crate::convert::bf16_rows;
use crate::error::{Error, Result};
use crate::quantize::same_model;
use crate::report::{Conversion, ModuleReport};
use crate::simulated;
use crate::unfold::{self, Scaled, Unfolding};

/// Decodes every quantized weight of `source` to BF16 into the open directory `out`; the caller
/// commits it. A value is computed in f32 and rounded to BF16 once. Of `config` only the size of
/// shards matters.
///
/// With `reference`, the checkpoint before it was quantized, channel scales that AWQ or `SmoothQuant` has moved from the
/// norms into the weights are moved back, and the norms are the reference's. What is left, or may be, is a finding, and stands
/// in `config.json` as `xgraft_channel_scales`.
///
/// # Errors
/// A checkpoint without quantized weights, codes or scales that are NaN, a reference that is none of this checkpoint, or a
/// full disk; and whatever `on_event` returns.
pub fn dequantize(
    source: &Checkpoint,
    reference: Option<&Checkpoint>,
    config: &Config,
    out: &OutputDir,
    on_event: &dyn Fn(RewriteEvent<'_>) -> Result<()>,
) -> Result<Conversion> {
    if matches!(source.quantization(), Quantization::None) {
        return Err(Error::NotQuantized {
            dir: source.dir().to_owned(),
        });
    }
    let unfolding = match reference {
        Some(reference) => {
            same_model(source, reference)?;
            Unfolding::new(source, reference)?
        }
        None => Unfolding::none(source),
    };
    let text = match unfolding.left() {
        Some(left) => source.config().with_field(unfold::FIELD, &left),
        None => source.config().with_quantization(None),
    };
    let buffer = RefCell::new(Vec::new());
    let done = rewrite(
        source,
        out,
        &Rewrite {
            fate: &|weight| fate(weight, &unfolding),
            load: &|weight| load(source, weight, &unfolding),
            convert: &|weight, loaded, sink| {
                convert(weight, &loaded, &unfolding, &mut buffer.borrow_mut(), sink)
            },
            on_event,
            config: &text,
            max_shard_bytes: config.max_shard_bytes,
        },
    )?;
    let done: Vec<_> = done.into_iter().map(flat).collect();
    let mut conversion = Conversion::of(&done);
    conversion.inputs.extend(unfolding.inputs);
    conversion.report.findings = unfolding.findings;
    conversion.report.simulated = simulated(source);
    let simulated = simulated::findings(source, None);
    conversion.report.findings.extend(simulated);
    Ok(conversion)
}

fn fate(weight: &Weight, unfolding: &Unfolding) -> Fate {
    if weight.is_input_scale() {
        return Fate::Replace(Vec::new());
    }
    let dtype = match unfolding.norm(&weight.tensor) {
        Some((dtype, _)) => *dtype,
        None if weight.is_quantized() || unfolding.factors(&weight.tensor).is_some() => Dtype::Bf16,
        None => return Fate::Keep,
    };
    let shape = weight.shape.clone();
    Fate::Replace(vec![PlannedTensor::new(weight.plain_name(), dtype, shape)])
}

/// A weight that is about to be decoded.
enum Loaded {
    /// Integers as they are stored.
    Packed(PackedMatrix),
    /// Anything else, and integers whose columns are to be multiplied.
    Matrix(WeightMatrix),
}

fn load(
    source: &Checkpoint,
    weight: &Weight,
    unfolding: &Unfolding,
) -> xgraft_checkpoint::Result<(Loaded, Digest)> {
    if unfolding.factors(&weight.tensor).is_none()
        && let Some((packed, digest)) = source.load_packed(weight)?
    {
        return Ok((Loaded::Packed(packed), digest));
    }
    let (matrix, digest) = source.load(weight)?;
    Ok((Loaded::Matrix(matrix), digest))
}

/// Writes a weight, with an account of it unless it is a norm.
fn convert(
    weight: &Weight,
    loaded: &Loaded,
    unfolding: &Unfolding,
    buffer: &mut Vec<bf16>,
    sink: &mut Sink<'_>,
) -> Result<Option<ModuleReport>> {
    if weight.is_input_scale() {
        return Ok(None);
    }
    if let Some((_, bytes)) = unfolding.norm(&weight.tensor) {
        sink.tensors(std::slice::from_ref(bytes))?;
        return Ok(None);
    }
    let (rows, cols) = weight.matrix_shape();
    let factors = unfolding.factors(&weight.tensor);
    let bytes_in = match (loaded, factors) {
        (Loaded::Packed(packed), _) => {
            write(sink, (rows, cols), buffer, |rows, out| {
                packed.decode_bf16(rows, out);
            })?;
            let bits = packed.as_ref().levels.bits();
            rows * cols * usize::from(bits) / 8
        }
        (Loaded::Matrix(WeightMatrix::Fp8(quantized)), None) => {
            write(sink, (rows, cols), buffer, |rows, out| {
                dequantize_rows(quantized.rows_in(rows), out);
            })?;
            rows * cols
        }
        (Loaded::Matrix(matrix), _) => {
            let scaled = Scaled { matrix, factors };
            write(sink, (rows, cols), buffer, |rows, out| {
                bf16_rows(&scaled, rows, out);
            })?;
            stored_bytes(matrix)
        }
    };
    Ok(Some(ModuleReport {
        module: weight.module.clone(),
        shape: [rows, cols],
        loss: None,
        delta: None,
        output: None,
        bytes_in: bytes_in as u64,
        bytes_out: (2 * rows * cols) as u64,
    }))
}

/// Elements that are decoded between two writes: more than enough for all threads, and far less than a matrix.
const PART: usize = 1 << 23;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Writes a tensor of so many rows and columns as `decode` gives it, some rows at a time.
fn write(
    sink: &mut Sink<'_>,
    (rows, cols): (usize, usize),
    buffer: &mut Vec<bf16>,
    decode: impl Fn(Range<usize>, &mut [bf16]),
) -> Result<()> {
    // A multiple of every height of blocks.
    let step = PART.div_ceil(cols.max(1)).next_multiple_of(256);
    let needed = step.min(rows) * cols + LINE;
    buffer.resize(buffer.len().max(needed), bf16::ZERO);
    // Whole lines of the cache are written faster than parts of two.
    let first = buffer.as_ptr().align_offset(LINE).min(LINE);
    let buffer = &mut buffer[first..];
    sink.tensor(|tensor| {
        for start in (0..rows).step_by(step) {
            let range = start..rows.min(start + step);
            let out = &mut buffer[..range.len() * cols];
            decode(range, out);
            tensor.write_bf16(out)?;
        }
        Ok(())
    })
}

/// Bytes of the numbers of a weight, without those of scales.
fn stored_bytes(matrix: &WeightMatrix) -> usize {
    match matrix {
        WeightMatrix::Fp8(quantized) => quantized.codes.len(),
        WeightMatrix::Grouped(grouped) => {
            grouped.codes.len() * usize::from(grouped.levels.bits()) / 8
        }
        WeightMatrix::F32(matrix) => matrix.data.len() * 4,
        WeightMatrix::Bf16 { data, .. } => data.len() * 2,
        WeightMatrix::F16 { data, .. } => data.len() * 2,
    }
}

pub(crate) fn flat<N>(done: Rewritten<Option<N>>) -> Rewritten<N> {
    Rewritten {
        tensor: done.tensor,
        file: done.file,
        blake3: done.blake3,
        bytes_in: done.bytes_in,
        bytes_out: done.bytes_out,
        note: done.note.flatten(),
    }
}
