//! What a checkpoint's files mean: configuration, roles, quantized layouts, logical weights.

pub(crate) mod bitsandbytes;
pub(crate) mod config;
pub(crate) mod fold;
pub(crate) mod fold_groups;
pub(crate) mod packing;
pub(crate) mod quantization;
pub(crate) mod role;
pub(crate) mod weight;
