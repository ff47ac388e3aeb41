//! A float checkpoint into FP8.

use serde_json::{Value, json};
use xgraft_block_scale::{QuantizedMatrix, Rows, ScaleDtype, quantize_rows, round_trip};
use xgraft_checkpoint::{
    Checkpoint, Converted, Dtype, Fate, Fp8Layout, OutputDir, PlannedTensor, Quantization, Rewrite,
    RewriteEvent, Weight, WeightMatrix, rewrite,
};
use xgraft_cpu_gemm::Source as _;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::report::{Conversion, ModuleReport};

/// The version of compressed-tensors whose arithmetic and configuration are written.
const COMPRESSED_TENSORS: &str = "0.20.0";

/// Quantizes every linear layer of `source` into the open directory `out`; the caller commits it.
///
/// # Errors
/// A checkpoint that is quantized already or has no linear layer, weights with NaN or infinity
/// (named with row and column), or a full disk; and whatever `on_event` returns.
pub fn quantize(
    source: &Checkpoint,
    config: &Config,
    out: &OutputDir,
    on_event: &dyn Fn(RewriteEvent<'_>) -> Result<()>,
) -> Result<Conversion> {
    config.validate()?;
    if let Quantization::Fp8 { layout, .. } = source.quantization() {
        return Err(Error::AlreadyQuantized {
            dir: source.dir().to_owned(),
            layout: layout.quant_method().to_owned(),
        });
    }
    if !source.weights().iter().any(|w| w.role.is_linear()) {
        return Err(Error::NothingToQuantize {
            dir: source.dir().to_owned(),
        });
    }
    let done = rewrite(
        source,
        out,
        &Rewrite {
            fate: &|weight| fate(weight, config),
            convert: &|weight, matrix| convert(weight, &matrix, config),
            on_event,
            config: &source
                .config()
                .with_quantization(Some(&quantization_config(source, config))),
            max_shard_bytes: config.max_shard_bytes,
        },
    )?;
    Ok(Conversion::of(&done))
}

fn fate(weight: &Weight, config: &Config) -> Fate {
    if !weight.role.is_linear() {
        return Fate::Keep;
    }
    let (rows, cols) = weight.matrix_shape();
    let (grid_rows, grid_cols) = config.recipe().block.grid(rows, cols);
    let scale = match config.scale {
        ScaleDtype::Bf16 => Dtype::Bf16,
        _ => Dtype::F32,
    };
    let scales = format!("{}.{}", weight.module, config.layout.scale_suffix());
    Fate::Replace(vec![
        PlannedTensor::new(weight.tensor.clone(), Dtype::F8E4m3, [rows, cols]),
        PlannedTensor::new(scales, scale, [grid_rows, grid_cols]),
    ])
}

fn convert(
    weight: &Weight,
    matrix: &WeightMatrix,
    config: &Config,
) -> Result<Converted<ModuleReport>> {
    let recipe = config.recipe();
    let failed = |source| Error::Quantize {
        tensor: weight.tensor.clone(),
        source,
    };
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let data = rows_of(matrix, weight)?;
    let mut codes = vec![0; data.len()];
    let mut grid = vec![0.0; recipe.block.count(rows, cols)];
    quantize_rows(data, cols, &recipe, &mut codes, &mut grid).map_err(failed)?;
    let quantized = QuantizedMatrix::new((rows, cols), recipe.format, recipe.block, codes, grid)
        .map_err(failed)?;
    let trip = round_trip(data, &quantized);
    let mut scales = Vec::new();
    recipe.scale.write(&quantized.scales, &mut scales);
    let note = ModuleReport {
        module: weight.module.clone(),
        shape: [rows, cols],
        relative_error: trip.relative_error(),
        error2: trip.error2,
        norm2: trip.norm2,
        max_abs_error: f64::from(trip.max_abs_error),
        saturated: trip.saturated as u64,
        bytes_in: (data.len() * element_size(data)) as u64,
        bytes_out: (quantized.codes.len() + scales.len()) as u64,
    };
    Ok(Converted {
        tensors: vec![quantized.codes, scales],
        note,
    })
}

fn rows_of<'a>(matrix: &'a WeightMatrix, weight: &Weight) -> Result<Rows<'a>> {
    Ok(match matrix {
        WeightMatrix::Bf16 { data, .. } => Rows::Bf16(data),
        WeightMatrix::F16 { data, .. } => Rows::F16(data),
        WeightMatrix::F32(matrix) => Rows::F32(&matrix.data),
        WeightMatrix::Fp8(_) => {
            return Err(Error::AlreadyQuantized {
                dir: weight.tensor.clone().into(),
                layout: "FP8 codes".into(),
            });
        }
    })
}

fn element_size(rows: Rows<'_>) -> usize {
    match rows {
        Rows::F32(_) => 4,
        Rows::Bf16(_) | Rows::F16(_) => 2,
    }
}

/// `quantization_config` of the new `config.json`; modules that stay are named exactly.
///
/// **Source**: the published Qwen3-FP8 configuration; compressed-tensors 0.20 for its own.
fn quantization_config(source: &Checkpoint, config: &Config) -> Value {
    let mut kept: Vec<&str> = source
        .weights()
        .iter()
        .filter(|w| !w.role.is_linear() && w.shape.len() == 2)
        .map(|w| w.module.as_str())
        .collect();
    if source.tied_embeddings() {
        kept.push("lm_head");
    }
    kept.sort_unstable();
    match config.layout {
        Fp8Layout::Hf => json!({
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "modules_to_not_convert": kept,
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
        }),
        Fp8Layout::CompressedTensors => compressed_tensors_config(&kept),
    }
}

fn compressed_tensors_config(ignore: &[&str]) -> Value {
    json!({
        "config_groups": {
            "FP8_BLOCK": {
                "format": "float-quantized",
                "input_activations": {
                    "dynamic": true,
                    "group_size": 128,
                    "num_bits": 8,
                    "strategy": "group",
                    "symmetric": true,
                    "type": "float",
                },
                "output_activations": null,
                "targets": ["Linear"],
                "weights": {
                    "block_structure": [128, 128],
                    "dynamic": false,
                    "group_size": null,
                    "num_bits": 8,
                    "strategy": "block",
                    "symmetric": true,
                    "type": "float",
                },
            }
        },
        "format": "float-quantized",
        "global_compression_ratio": null,
        "ignore": ignore,
        "kv_cache_scheme": null,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "transform_config": {},
        "version": COMPRESSED_TENSORS,
    })
}
