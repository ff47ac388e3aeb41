//! A quantized checkpoint into the BF16 one that it stands for.

use xgraft_checkpoint::{
    Checkpoint, Converted, Dtype, Fate, OutputDir, PlannedTensor, Quantization, Rewrite,
    RewriteEvent, Weight, WeightMatrix, rewrite,
};
use xgraft_cpu_gemm::Source;

use crate::config::Config;
use crate::convert::{bf16_bytes, rounding};
use crate::error::{Error, Result};
use crate::report::{Conversion, ModuleReport};

/// Decodes every quantized weight of `source` to BF16 into the open directory `out`; the caller
/// commits it. A value is computed in f32 and rounded to BF16 once. Of `config` only the size of
/// shards matters.
///
/// # Errors
/// A checkpoint without quantized weights, codes or scales that are NaN, or a full disk; and
/// whatever `on_event` returns.
pub fn dequantize(
    source: &Checkpoint,
    config: &Config,
    out: &OutputDir,
    on_event: &dyn Fn(RewriteEvent<'_>) -> Result<()>,
) -> Result<Conversion> {
    if matches!(source.quantization(), Quantization::None) {
        return Err(Error::NotQuantized {
            dir: source.dir().to_owned(),
        });
    }
    let done = rewrite(
        source,
        out,
        &Rewrite {
            fate: &fate,
            convert: &|weight, matrix| convert(weight, &matrix),
            on_event,
            config: &source.config().with_quantization(None),
            max_shard_bytes: config.max_shard_bytes,
        },
    )?;
    Ok(Conversion::of(&done))
}

fn fate(weight: &Weight) -> Fate {
    if weight.is_quantized() {
        let name = format!("{}.weight", weight.module);
        Fate::Replace(vec![PlannedTensor::new(
            name,
            Dtype::Bf16,
            weight.shape.clone(),
        )])
    } else {
        Fate::Keep
    }
}

fn convert(weight: &Weight, matrix: &WeightMatrix) -> Result<Converted<ModuleReport>> {
    let bytes_in = match matrix {
        WeightMatrix::Fp8(quantized) => quantized.codes.len(),
        WeightMatrix::Grouped(grouped) => {
            grouped.codes.len() * usize::from(grouped.levels.bits()) / 8
        }
        _ => {
            return Err(Error::NotQuantized {
                dir: weight.tensor.clone().into(),
            });
        }
    };
    let bytes = bf16_bytes(matrix);
    let trip = rounding(matrix, &bytes);
    Ok(Converted {
        note: ModuleReport {
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
        },
        tensors: vec![bytes],
    })
}
