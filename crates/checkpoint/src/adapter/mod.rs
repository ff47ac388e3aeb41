//! LoRA adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

pub(crate) mod config;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod pattern;
pub(crate) mod write;

/// The two files of an adapter.
pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
