//! An FP8 checkpoint into the BF16 one that it stands for.

use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use xgraft_block_scale::{QuantizedMatrix, RowsMut, dequantize_rows};
use xgraft_checkpoint::{
    Checkpoint, Converted, Dtype, Fate, OutputDir, PlannedTensor, Quantization, Rewrite,
    RewriteEvent, Weight, WeightMatrix, rewrite,
};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::report::{Conversion, ModuleReport};

/// Decodes every quantized weight of `source` to BF16 into the open directory `out`; the caller
/// commits it. Value = code × scale in f32, rounded to BF16 once. Of `config` only the size of
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
            convert: &convert,
            on_event,
            config: &source.config().with_quantization(None),
            max_shard_bytes: config.max_shard_bytes,
        },
    )?;
    Ok(Conversion::of(&done))
}

fn fate(weight: &Weight) -> Fate {
    if weight.is_quantized() {
        let bf16 = PlannedTensor::new(weight.tensor.clone(), Dtype::Bf16, weight.shape.clone());
        Fate::Replace(vec![bf16])
    } else {
        Fate::Keep
    }
}

fn convert(weight: &Weight, matrix: WeightMatrix) -> Result<Converted<ModuleReport>> {
    let WeightMatrix::Fp8(quantized) = matrix else {
        return Err(Error::NotQuantized {
            dir: weight.tensor.clone().into(),
        });
    };
    let mut values = vec![bf16::ZERO; quantized.codes.len()];
    dequantize_rows(quantized.as_rows(), RowsMut::Bf16(&mut values));
    let bytes: Vec<u8> = values
        .reinterpret_cast()
        .iter()
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    let note = note(weight, &quantized, &values, bytes.len());
    Ok(Converted {
        tensors: vec![bytes],
        note,
    })
}

/// What rounding code × scale to BF16 costs.
fn note(
    weight: &Weight,
    quantized: &QuantizedMatrix,
    values: &[bf16],
    bytes_out: usize,
) -> ModuleReport {
    let trip = xgraft_block_scale::round_trip(values.into(), quantized);
    ModuleReport {
        module: weight.module.clone(),
        shape: [quantized.rows, quantized.cols],
        relative_error: trip.relative_error(),
        error2: trip.error2,
        norm2: trip.norm2,
        max_abs_error: f64::from(trip.max_abs_error),
        saturated: 0,
        bytes_in: quantized.codes.len() as u64,
        bytes_out: bytes_out as u64,
    }
}
