//! What a conversion is asked to do.

use serde_json::{Value, json};
use xgraft_block_scale::{BlockShape, Recipe, ScaleDtype};
use xgraft_checkpoint::{Checkpoint, DEFAULT_SHARD_BYTES, Fp8Layout, Identity as _};

use crate::error::{Error, Result};

/// A number format and the geometry of its scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// E4M3 codes, one scale for each 128 × 128 block, dynamic activations.
    Fp8Block,
}

/// A conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The number format.
    pub scheme: Scheme,
    /// How the files name and configure it.
    pub layout: Fp8Layout,
    /// Element type of the stored scales.
    pub scale: ScaleDtype,
    /// The most bytes of tensors in one file.
    pub max_shard_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheme: Scheme::Fp8Block,
            layout: Fp8Layout::Hf,
            scale: ScaleDtype::F32,
            max_shard_bytes: DEFAULT_SHARD_BYTES,
        }
    }
}

impl Config {
    /// Rejects combinations that no reader knows.
    ///
    /// # Errors
    /// [`Error::ScaleDtype`].
    pub fn validate(&self) -> Result<()> {
        let known = match self.layout {
            Fp8Layout::Hf => matches!(self.scale, ScaleDtype::F32 | ScaleDtype::Bf16),
            Fp8Layout::CompressedTensors => self.scale == ScaleDtype::Bf16,
        };
        if known {
            return Ok(());
        }
        Err(Error::ScaleDtype {
            found: self.scale.to_string(),
        })
    }

    pub(crate) fn recipe(&self) -> Recipe {
        match self.layout {
            Fp8Layout::Hf => Recipe::f32(BlockShape::B128, self.scale),
            Fp8Layout::CompressedTensors => Recipe::compressed_tensors(BlockShape::B128),
        }
    }

    pub(crate) fn to_json(self) -> Value {
        json!({
            "scheme": "fp8-block",
            "layout": self.layout.quant_method(),
            "scale_dtype": self.scale.to_string(),
            "max_shard_bytes": self.max_shard_bytes,
        })
    }
}

/// What makes earlier work of an interrupted run usable: the same verb, configuration and files.
#[must_use]
pub fn fingerprint(verb: &str, source: &Checkpoint, config: &Config) -> Value {
    json!({ "verb": verb, "version": env!("CARGO_PKG_VERSION"), "config": config.to_json(), "source": source.identity_json() })
}
