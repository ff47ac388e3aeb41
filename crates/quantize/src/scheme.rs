//! The number formats, and what each needs of recipe, packing and configuration.

use std::num::NonZeroUsize;

use serde_json::{Value, json};
use xgraft_block_scale::{
    Arithmetic, BlockShape, Extent, GroupRecipe, GroupScale, Levels, Recipe, ScaleDtype,
    WeightDtype,
};
use xgraft_checkpoint::{Fp8Layout, Packing};

use crate::config::Config;
use crate::error::{Error, Result};

/// A number format and the geometry of its scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// E4M3 codes, one scale for each 128 × 128 block, dynamic activations.
    Fp8Block,
    /// E4M3 codes, one scale a row, dynamic activations.
    Fp8Channel,
    /// E4M3 codes, one scale a weight, dynamic activations.
    Fp8Tensor,
    /// E4M3 codes, one scale a weight, and one fixed scale for its input, from activation statistics.
    Fp8TensorStatic,
    /// 8-bit integers, one scale a row, dynamic activations.
    Int8,
    /// 4-bit integers in groups, activations as they are.
    Int4,
    /// 3-bit integers in groups; simulated.
    Int3,
    /// 2-bit integers in groups; simulated.
    Int2,
    /// The 4-bit `NormalFloat` in groups of 64.
    Nf4,
    /// E2M1 in groups of 32 with power-of-two scales; simulated.
    Mxfp4,
    /// E2M1 in groups of 16 with E4M3 scales under one of the tensor; simulated.
    Nvfp4,
}

/// How the files name, pack and configure the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `quant_method: fp8`, as Qwen and `DeepSeek` publish.
    Hf,
    /// As llm-compressor writes, for every scheme that is not simulated.
    CompressedTensors,
    /// INT4 in the word order of `AutoAWQ` GEMM. The file says `rtn` of itself: it was rounded to nearest, which is not AWQ.
    AwqOrder,
    /// INT4 in the word order of GPTQ; it says `rtn` too.
    GptqOrder,
    /// NF4 as bitsandbytes stores it, without double quantization; the same bytes, so the same name.
    BitsAndBytes,
    /// The values that the format can represent, in BF16: for experiments with formats that no engine reads.
    Simulated,
}

impl Scheme {
    /// All that need no activation statistics.
    pub const ALL: [Scheme; 10] = [
        Scheme::Fp8Block,
        Scheme::Fp8Channel,
        Scheme::Fp8Tensor,
        Scheme::Int8,
        Scheme::Int4,
        Scheme::Int3,
        Scheme::Int2,
        Scheme::Nf4,
        Scheme::Mxfp4,
        Scheme::Nvfp4,
    ];

    /// Its name in configurations and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Fp8Block => "fp8-block",
            Scheme::Fp8Channel => "fp8-channel",
            Scheme::Fp8Tensor => "fp8-tensor",
            Scheme::Fp8TensorStatic => "fp8-tensor-static",
            Scheme::Int8 => "int8",
            Scheme::Int4 => "int4",
            Scheme::Int3 => "int3",
            Scheme::Int2 => "int2",
            Scheme::Nf4 => "nf4",
            Scheme::Mxfp4 => "mxfp4",
            Scheme::Nvfp4 => "nvfp4",
        }
    }

    /// The layout that is written when none is asked for.
    pub const fn usual_layout(self) -> Layout {
        match self {
            Scheme::Fp8Block => Layout::Hf,
            Scheme::Fp8Channel
            | Scheme::Fp8Tensor
            | Scheme::Fp8TensorStatic
            | Scheme::Int8
            | Scheme::Int4 => Layout::CompressedTensors,
            Scheme::Nf4 => Layout::BitsAndBytes,
            Scheme::Int3 | Scheme::Int2 | Scheme::Mxfp4 | Scheme::Nvfp4 => Layout::Simulated,
        }
    }

    /// Elements of a group of integers; none where the format says it itself.
    pub const fn usual_group(self) -> Option<usize> {
        match self {
            Scheme::Int4 | Scheme::Int3 => Some(128),
            Scheme::Int2 => Some(32),
            _ => None,
        }
    }
}

impl Layout {
    /// Its name in configurations and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::Hf => "hf",
            Layout::CompressedTensors => "compressed-tensors",
            Layout::AwqOrder => "awq-order",
            Layout::GptqOrder => "gptq-order",
            Layout::BitsAndBytes => "bitsandbytes",
            Layout::Simulated => "simulated",
        }
    }
}

/// What is done with a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// FP8 codes with scales of blocks.
    Blocks {
        recipe: Recipe,
        layout: Fp8Layout,
        /// Whether the input's scale is stored too.
        input_scale: bool,
    },
    /// Integers with scales of groups.
    Groups {
        recipe: GroupRecipe,
        packing: Packing,
    },
    /// The values of either, stored in BF16.
    Simulated(Simulated),
}

/// A format whose values are stored and not its codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Simulated {
    Blocks(Recipe),
    Groups(GroupRecipe),
}

impl Method {
    /// # Errors
    /// [`Error::Combination`] for a scheme that the layout does not have.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let (scheme, layout) = (config.scheme, config.layout);
        let refuse = || Error::Combination {
            scheme: scheme.name(),
            layout: layout.name(),
            usual: scheme.usual_layout().name(),
        };
        let block = match scheme {
            Scheme::Fp8Block => Some(BlockShape::B128),
            Scheme::Fp8Channel => Some(BlockShape::ROW),
            Scheme::Fp8Tensor | Scheme::Fp8TensorStatic => Some(BlockShape::TENSOR),
            _ => None,
        };
        let input_scale = scheme == Scheme::Fp8TensorStatic;
        Ok(match (block, layout) {
            (Some(block), Layout::Hf) if scheme == Scheme::Fp8Block => Method::Blocks {
                recipe: Recipe::f32(block, config.scale),
                layout: Fp8Layout::Hf,
                input_scale: false,
            },
            (Some(block), Layout::CompressedTensors) => Method::Blocks {
                recipe: Recipe::compressed_tensors(block),
                layout: Fp8Layout::CompressedTensors,
                input_scale,
            },
            (Some(block), Layout::Simulated) if !input_scale => {
                Method::Simulated(Simulated::Blocks(Recipe::f32(block, ScaleDtype::F32)))
            }
            (None, Layout::Simulated) => {
                Method::Simulated(Simulated::Groups(group_recipe(config, Arithmetic::F32)))
            }
            (None, Layout::CompressedTensors) if scheme == Scheme::Int8 => Method::Groups {
                recipe: group_recipe(config, Arithmetic::CompressedTensors),
                packing: Packing::Bytes,
            },
            (None, Layout::CompressedTensors) if scheme == Scheme::Int4 => Method::Groups {
                recipe: group_recipe(config, Arithmetic::CompressedTensors),
                packing: Packing::Rows,
            },
            (None, Layout::BitsAndBytes) if scheme == Scheme::Nf4 => Method::Groups {
                recipe: group_recipe(config, Arithmetic::F32),
                packing: Packing::BitsAndBytes,
            },
            (None, Layout::AwqOrder) if scheme == Scheme::Int4 => Method::Groups {
                recipe: group_recipe(config, Arithmetic::F32),
                packing: Packing::Awq,
            },
            (None, Layout::GptqOrder) if scheme == Scheme::Int4 => Method::Groups {
                recipe: group_recipe(config, Arithmetic::F32),
                packing: Packing::Gptq {
                    zeros_less_one: false,
                },
            },
            _ => return Err(refuse()),
        })
    }

    /// `quantization_config` of the new `config.json`; none for a simulated format.
    pub(crate) fn quantization_config(&self, config: &Config, kept: &[String]) -> Option<Value> {
        match self {
            Method::Simulated(_) => None,
            Method::Blocks {
                layout: Fp8Layout::Hf,
                ..
            } => Some(json!({
                "activation_scheme": "dynamic",
                "fmt": "e4m3",
                "modules_to_not_convert": kept,
                "quant_method": "fp8",
                "weight_block_size": [128, 128],
            })),
            Method::Blocks {
                input_scale: true, ..
            } => Some(compressed_tensors(
                "FP8",
                "float-quantized",
                &ct_weights("float", 8, "tensor"),
                // Fixed for the tensor: the same words as for weights.
                &ct_weights("float", 8, "tensor"),
                kept,
            )),
            Method::Blocks { recipe, .. } => {
                let (name, weights, activations) = match recipe.block {
                    BlockShape::ROW => (
                        "FP8_DYNAMIC",
                        ct_weights("float", 8, "channel"),
                        token("float"),
                    ),
                    BlockShape::TENSOR => (
                        "FP8_TENSOR",
                        ct_weights("float", 8, "tensor"),
                        token("float"),
                    ),
                    _ => {
                        let mut weights = ct_weights("float", 8, "block");
                        weights["block_structure"] = json!([128, 128]);
                        (
                            "FP8_BLOCK",
                            weights,
                            ct_activations("float", "group", Some(128)),
                        )
                    }
                };
                Some(compressed_tensors(
                    name,
                    "float-quantized",
                    &weights,
                    &activations,
                    kept,
                ))
            }
            Method::Groups { recipe, packing } => Some(match packing {
                Packing::Bytes => compressed_tensors(
                    "W8A8",
                    "int-quantized",
                    &ct_weights("int", 8, "channel"),
                    &token("int"),
                    kept,
                ),
                Packing::Rows => {
                    let mut weights = ct_weights("int", recipe.levels.bits(), "group");
                    weights["group_size"] = json!(config.group_size());
                    weights["symmetric"] = json!(recipe.symmetric);
                    let name = if recipe.symmetric {
                        "W4A16"
                    } else {
                        "W4A16_ASYM"
                    };
                    compressed_tensors(name, "pack-quantized", &weights, &Value::Null, kept)
                }
                Packing::BitsAndBytes => bitsandbytes(kept),
                Packing::Awq | Packing::Gptq { .. } => json!({
                    "bits": recipe.levels.bits(),
                    "group_size": config.group_size(),
                    "modules_to_not_convert": kept,
                    "packing": if *packing == Packing::Awq { "out-interleaved" } else { "in-natural" },
                    "quant_method": "rtn",
                    "zero_point": !recipe.symmetric,
                }),
            }),
        }
    }
}

fn group_recipe(config: &Config, arithmetic: Arithmetic) -> GroupRecipe {
    let size = |n: usize| NonZeroUsize::new(n).map_or(Extent::All, Extent::Of);
    let own = size(config.group_size().unwrap_or(0));
    let (levels, group, scale) = match config.scheme {
        Scheme::Int4 => (Levels::Int(4), own, ScaleDtype::F32),
        Scheme::Int3 => (Levels::Int(3), own, ScaleDtype::F32),
        Scheme::Int2 => (Levels::Int(2), own, ScaleDtype::F32),
        Scheme::Nf4 => (Levels::Nf4, size(64), ScaleDtype::F32),
        Scheme::Mxfp4 | Scheme::Nvfp4 => (
            Levels::E2m1,
            size(if config.scheme == Scheme::Mxfp4 {
                32
            } else {
                16
            }),
            ScaleDtype::F32,
        ),
        _ => (Levels::Int(8), Extent::All, ScaleDtype::F32),
    };
    let scale = match (config.scheme, config.layout) {
        (Scheme::Mxfp4, _) => GroupScale::PowerOfTwo,
        (Scheme::Nvfp4, _) => GroupScale::E4m3OfTensor,
        (_, Layout::AwqOrder | Layout::GptqOrder) => GroupScale::Float(ScaleDtype::F16),
        (_, Layout::CompressedTensors) => {
            let recipe = GroupRecipe::compressed_tensors(8, group, true, WeightDtype::Bf16);
            recipe.scale
        }
        _ => GroupScale::Float(scale),
    };
    GroupRecipe {
        levels,
        group,
        symmetric: config.symmetric,
        scale,
        arithmetic,
    }
}

/// The version of compressed-tensors whose arithmetic and configuration are written.
const COMPRESSED_TENSORS: &str = "0.20.0";

fn ct_weights(kind: &str, bits: u8, strategy: &str) -> Value {
    json!({
        "dynamic": false,
        "group_size": null,
        "num_bits": bits,
        "strategy": strategy,
        "symmetric": true,
        "type": kind,
    })
}

fn token(kind: &str) -> Value {
    ct_activations(kind, "token", None)
}

fn ct_activations(kind: &str, strategy: &str, group: Option<usize>) -> Value {
    json!({
        "dynamic": true,
        "group_size": group,
        "num_bits": 8,
        "strategy": strategy,
        "symmetric": true,
        "type": kind,
    })
}

/// **Source** `transformers` 5.23 `utils/quantization_config.py` (`BitsAndBytesConfig.to_dict`).
fn bitsandbytes(skipped: &[String]) -> Value {
    json!({
        "_load_in_4bit": true,
        "_load_in_8bit": false,
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": false,
        "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false,
        "llm_int8_skip_modules": skipped,
        "llm_int8_threshold": 6.0,
        "load_in_4bit": true,
        "load_in_8bit": false,
        "quant_method": "bitsandbytes",
    })
}

/// **Source**: compressed-tensors 0.20, `quantization/quant_config.py` and `quant_scheme.py`.
fn compressed_tensors(
    name: &str,
    format: &str,
    weights: &Value,
    activations: &Value,
    ignore: &[String],
) -> Value {
    json!({
        "config_groups": {
            name: {
                "format": format,
                "input_activations": activations,
                "output_activations": null,
                "targets": ["Linear"],
                "weights": weights,
            }
        },
        "format": format,
        "global_compression_ratio": null,
        "ignore": ignore,
        "kv_cache_scheme": null,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "transform_config": {},
        "version": COMPRESSED_TENSORS,
    })
}
