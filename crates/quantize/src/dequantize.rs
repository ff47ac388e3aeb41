//! A quantized checkpoint into the BF16 one that it stands for.

use xgraft_checkpoint::{
    Checkpoint, Converted, Dtype, Fate, OutputDir, PlannedTensor, Quantization, Rewrite,
    RewriteEvent, Rewritten, Weight, WeightMatrix, rewrite,
};
use xgraft_cpu_gemm::Source;

use crate::config::Config;
use crate::convert::bf16_bytes;
use crate::error::{Error, Result};
use crate::quantize::same_model;
use crate::report::{Conversion, ErrorOf, ModuleReport};
use crate::simulated;
use crate::unfold::{Scaled, Unfolding};

/// Decodes every quantized weight of `source` to BF16 into the open directory `out`; the caller
/// commits it. A value is computed in f32 and rounded to BF16 once. Of `config` only the size of
/// shards matters.
///
/// With `reference`, the checkpoint before it was quantized, channel scales that AWQ or `SmoothQuant` has moved from the
/// norms into the weights are moved back, and the norms are the reference's. What is left, or may be, is a finding.
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
    let done = rewrite(
        source,
        out,
        &Rewrite {
            fate: &|weight| fate(weight, &unfolding),
            convert: &|weight, matrix| Ok(convert(weight, &matrix, &unfolding)),
            on_event,
            config: &source.config().with_quantization(None),
            max_shard_bytes: config.max_shard_bytes,
        },
    )?;
    let done: Vec<_> = done.into_iter().map(flat).collect();
    let mut conversion = Conversion::of(&done, ErrorOf::Bf16);
    conversion.inputs.extend(unfolding.inputs);
    conversion.report.findings = unfolding.findings;
    conversion.report.simulated = simulated(source);
    let simulated = simulated::findings(source, None);
    conversion.report.findings.extend(simulated);
    Ok(conversion)
}

fn fate(weight: &Weight, unfolding: &Unfolding) -> Fate {
    let dtype = match unfolding.norm(&weight.tensor) {
        Some((dtype, _)) => *dtype,
        None if weight.is_quantized() || unfolding.factors(&weight.tensor).is_some() => Dtype::Bf16,
        None => return Fate::Keep,
    };
    let shape = weight.shape.clone();
    Fate::Replace(vec![PlannedTensor::new(weight.plain_name(), dtype, shape)])
}

/// The bytes of a weight, with an account of it unless it is a norm.
fn convert(
    weight: &Weight,
    matrix: &WeightMatrix,
    unfolding: &Unfolding,
) -> Converted<Option<ModuleReport>> {
    if let Some((_, bytes)) = unfolding.norm(&weight.tensor) {
        return Converted {
            tensors: vec![bytes.clone()],
            note: None,
        };
    }
    let bytes_in = match matrix {
        WeightMatrix::Fp8(quantized) => quantized.codes.len(),
        WeightMatrix::Grouped(grouped) => {
            grouped.codes.len() * usize::from(grouped.levels.bits()) / 8
        }
        WeightMatrix::F32(matrix) => matrix.data.len() * 4,
        WeightMatrix::Bf16 { data, .. } => data.len() * 2,
        WeightMatrix::F16 { data, .. } => data.len() * 2,
    };
    let factors = unfolding.factors(&weight.tensor);
    let matrix = Scaled { matrix, factors };
    let (bytes, trip) = bf16_bytes(&matrix);
    Converted {
        note: Some(ModuleReport {
            module: weight.module.clone(),
            shape: [matrix.rows(), matrix.cols()],
            relative_error: trip.relative_error(),
            error2: trip.error2,
            norm2: trip.norm2,
            max_abs_error: f64::from(trip.max_abs_error),
            saturated: 0,
            delta: None,
            bytes_in: bytes_in as u64,
            bytes_out: bytes.len() as u64,
        }),
        tensors: vec![bytes],
    }
}

fn flat<N>(done: Rewritten<Option<N>>) -> Rewritten<N> {
    Rewritten {
        tensor: done.tensor,
        file: done.file,
        blake3: done.blake3,
        bytes_in: done.bytes_in,
        bytes_out: done.bytes_out,
        note: done.note.flatten(),
    }
}
