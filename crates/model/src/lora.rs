//! LoRA adapters of a running model.

use std::path::Path;

use xgraft_checkpoint::{Adapter, LoraKind, LoraModule};

use crate::error::{Error, Result};
use crate::projection::Projection;
use crate::spec::Spec;
use crate::weights::Linear;

/// One immutable version of an adapter: for each layer and projection the factors that it changes.
///
/// It sees the activations that the base sees, in f32, and works at its own rank.
#[derive(Debug)]
pub struct LoraAdapter {
    layers: Vec<[Option<Factors>; Projection::COUNT]>,
    rank: usize,
    bytes: usize,
}

/// `W x + scale · B (A x)`.
#[derive(Debug)]
pub(crate) struct Factors {
    pub(crate) a: Linear,
    pub(crate) b: Linear,
    pub(crate) scale: f32,
}

impl LoraAdapter {
    /// Reads a PEFT adapter for a model of this shape. Every number of it is checked.
    ///
    /// # Errors
    /// [`Error::Adapter`] for a module that the model has not or that is no projection of a layer, for another shape, and for
    /// tensors that are no pair of factors; [`Error::Checkpoint`] for everything that is wrong with the files.
    pub fn open(dir: impl AsRef<Path>, spec: &Spec) -> Result<LoraAdapter> {
        let adapter = Adapter::open(dir)?;
        if let Some(other) = adapter.others().next() {
            let found = "a tensor that is no factor (run `xgraft sanitize` first)";
            return Err(error(
                &adapter,
                &other.info.name,
                "factors of projections",
                found,
            ));
        }
        refuse_meanings(&adapter)?;
        let mut layers = Vec::new();
        layers.resize_with(spec.layers, Default::default);
        let mut lora = LoraAdapter {
            layers,
            rank: 0,
            bytes: 0,
        };
        for module in adapter.modules() {
            lora.add(&adapter, module, spec)?;
        }
        Ok(lora)
    }

    fn add(&mut self, adapter: &Adapter, module: &LoraModule, spec: &Spec) -> Result<()> {
        let name = module.module.as_str();
        let place = Projection::place(name).filter(|_| module.kind == LoraKind::Linear);
        let Some((layer, projection)) = place else {
            let expected = "a projection of a decoder layer (run `xgraft sanitize` first)";
            return Err(error(adapter, name, expected, "another module"));
        };
        if layer >= spec.layers {
            let expected = format!("one of the model's {} layers", spec.layers);
            return Err(error(adapter, name, &expected, &format!("layer {layer}")));
        }
        let (rows, cols) = module.weight_shape();
        let [out, inner] = projection.shape(spec);
        if (rows, cols) != (out, inner) {
            let expected = format!("factors of [{out}, {inner}]");
            return Err(error(
                adapter,
                name,
                &expected,
                &format!("[{rows}, {cols}]"),
            ));
        }
        let scale = module.scale as f32;
        if !scale.is_finite() {
            let found = format!("{:e}", module.scale);
            return Err(error(
                adapter,
                name,
                "a scale (alpha over rank) that f32 can hold",
                &found,
            ));
        }
        let (a, _) = adapter.load(&module.a)?;
        let (b, _) = adapter.load(&module.b)?;
        let factors = Factors {
            a: Linear::factor(a),
            b: Linear::factor(b),
            scale,
        };
        self.rank = self.rank.max(module.rank);
        self.bytes += factors.a.stored_bytes() + factors.b.stored_bytes();
        self.layers[layer][projection as usize] = Some(factors);
        Ok(())
    }

    /// The largest rank of its modules.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Bytes of its factors in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn factors(&self, layer: usize, projection: Projection) -> Option<&Factors> {
        self.layers[layer][projection as usize].as_ref()
    }
}

/// Fields that say that the adapter is more than its factors.
fn refuse_meanings(adapter: &Adapter) -> Result<()> {
    let config = adapter.config();
    let whole = config.modules_to_save.as_ref().map_or(0, Vec::len);
    let found = [
        (
            "use_dora",
            config.use_dora,
            "true (DoRA scales each row)".to_owned(),
        ),
        (
            "fan_in_fan_out",
            config.fan_in_fan_out,
            "true (weights [in, out])".to_owned(),
        ),
        ("lora_bias", config.lora_bias, "true".to_owned()),
        ("bias", config.bias != "none", config.bias.clone()),
        (
            "modules_to_save",
            whole > 0,
            format!("{whole} modules (run `xgraft sanitize` first)"),
        ),
    ];
    match found.into_iter().find(|(_, there, _)| *there) {
        Some((field, _, found)) => Err(error(adapter, field, "plain LoRA", &found)),
        None => Ok(()),
    }
}

fn error(adapter: &Adapter, entry: &str, expected: &str, found: &str) -> Error {
    Error::Adapter {
        dir: adapter.dir().to_owned(),
        entry: entry.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
