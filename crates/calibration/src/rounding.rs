//! The inputs of linear layers rounded as an engine rounds them, so that what that costs can be measured.
//!
//! **Source** vLLM `csrc/quantization/w8a8` (`dynamic_per_token_scaled_fp8_quant`, `static_scaled_fp8_quant`,
//! `dynamic_scaled_int8_quant`); compressed-tensors 0.20 `quant_args.py` for the configuration.

use half::{bf16, f16};
use rayon::prelude::*;
use serde_json::Value;
use xgraft_checkpoint::{Checkpoint, Dtype, Weight};
use xgraft_fp8_codec::{E4m3, Overflow};
use xgraft_model::{Site, Spec, Tap};

use crate::{Error, Result};

/// How the rows of one site are rounded. Every scale is amax / the largest code.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Not,
    /// E4M3 with a scale a token.
    Token,
    /// E4M3 with a scale for so many neighbouring channels of a token.
    Group(usize),
    /// E4M3 with this scale for all tokens; what is beyond it saturates.
    Static(f32),
    /// INT8 with a scale a token.
    TokenInt8,
}

/// Rounds the inputs of a model's linear layers as its checkpoint's configuration says.
#[derive(Debug)]
pub struct Rounding {
    sites: Vec<[How; 4]>,
    widths: [usize; 4],
}

impl Rounding {
    /// Reads what the checkpoint says of activations; a site is rounded if one of the weights that read it is quantized.
    ///
    /// # Errors
    /// [`Error::ActivationScheme`] for a way that is not known here, and a static scale that is missing or no positive number.
    pub fn of(checkpoint: &Checkpoint, spec: &Spec) -> Result<Rounding> {
        let scheme = scheme(checkpoint)?;
        let site = |layer: usize, site: Site| {
            let modules = site.modules(layer);
            let is_quantized = |m: &&String| checkpoint.weight(m).is_some_and(Weight::is_quantized);
            match (modules.iter().find(is_quantized), scheme) {
                (Some(module), How::Static(_)) => static_scale(checkpoint, module),
                (Some(_), how) => Ok(how),
                (None, _) => Ok(How::Not),
            }
        };
        let layers = (0..spec.layers).map(|layer| {
            let [a, b, c, d] = Site::ALL;
            Ok([
                site(layer, a)?,
                site(layer, b)?,
                site(layer, c)?,
                site(layer, d)?,
            ])
        });
        Ok(Rounding {
            sites: layers.collect::<Result<_>>()?,
            widths: Site::ALL.map(|site| site.width(spec)),
        })
    }

    /// Rounds nothing.
    #[must_use]
    pub fn none(spec: &Spec) -> Rounding {
        Rounding {
            sites: vec![[How::Not; 4]; spec.layers],
            widths: Site::ALL.map(|site| site.width(spec)),
        }
    }

    /// What is done, in a word: `e4m3 by token`.
    #[must_use]
    pub fn name(&self) -> String {
        let mut all = self.sites.iter().flatten();
        match all.find(|how| **how != How::Not) {
            None => "as computed".to_owned(),
            Some(How::Not | How::Token) => "e4m3 by token".to_owned(),
            Some(How::Group(size)) => format!("e4m3 by {size} channels of a token"),
            Some(How::Static(_)) => "e4m3 with fixed scales".to_owned(),
            Some(How::TokenInt8) => "int8 by token".to_owned(),
        }
    }
}

impl Tap for Rounding {
    fn input(&mut self, layer: usize, site: Site, x: &mut [f32]) {
        let width = self.widths[site as usize];
        let how = self.sites[layer][site as usize];
        if how == How::Not {
            return;
        }
        let rows = x.par_chunks_exact_mut(width).with_min_len(8);
        rows.for_each(|row| match how {
            How::Not => {}
            How::Token => round_e4m3(row, scale_of(row, E4m3::MAX)),
            How::Group(size) => {
                for group in row.chunks_mut(size) {
                    round_e4m3(group, scale_of(group, E4m3::MAX));
                }
            }
            How::Static(scale) => round_e4m3(row, scale),
            How::TokenInt8 => {
                let scale = scale_of(row, 127.0);
                row.iter_mut()
                    .for_each(|x| *x = (*x / scale).round_ties_even() * scale);
            }
        });
    }
}

/// The scale that spans the numbers; 1 where all are zero.
fn scale_of(x: &[f32], largest: f32) -> f32 {
    let amax = x.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
    let scale = amax / largest;
    if scale > 0.0 { scale } else { 1.0 }
}

fn round_e4m3(x: &mut [f32], scale: f32) {
    for x in x {
        *x = E4m3::encode(*x / scale, Overflow::Saturate).decode() * scale;
    }
}

/// What the configuration says of activations; a static scale stands for all that the tensors have.
fn scheme(checkpoint: &Checkpoint) -> Result<How> {
    let raw = checkpoint.config().raw();
    let Some(config) = raw.get("quantization_config") else {
        return Ok(How::Not);
    };
    let refuse = |field, expected, found: &Value| {
        Err(Error::ActivationScheme {
            file: checkpoint.config().file().to_owned(),
            field,
            expected,
            found: found.to_string(),
        })
    };
    match config["quant_method"].as_str() {
        Some("compressed-tensors") => {}
        Some("fp8") => {
            return match (
                config["activation_scheme"].as_str(),
                &config["weight_block_size"][1],
            ) {
                (Some("dynamic"), Value::Null) => Ok(How::Token),
                (Some("dynamic"), size) => Ok(How::Group(size.as_u64().unwrap_or(128) as usize)),
                _ => refuse("activation_scheme", "dynamic", &config["activation_scheme"]),
            };
        }
        _ => return Ok(How::Not),
    }
    let groups = config["config_groups"].as_object();
    let mut groups = groups.into_iter().flat_map(|groups| groups.values());
    let (Some(group), None) = (groups.next(), groups.next()) else {
        return refuse("config_groups", "one group", &config["config_groups"]);
    };
    let inputs = &group["input_activations"];
    let number = (inputs["type"].as_str(), inputs["num_bits"].as_u64());
    let strategy = inputs["strategy"].as_str();
    match (number, strategy, inputs["dynamic"].as_bool()) {
        ((None, None), None, None) => Ok(How::Not),
        ((Some("float"), Some(8)), Some("token"), Some(true)) => Ok(How::Token),
        ((Some("float"), Some(8)), Some("tensor"), Some(false)) => Ok(How::Static(1.0)),
        ((Some("int"), Some(8)), Some("token"), Some(true)) => Ok(How::TokenInt8),
        ((Some("float"), Some(8)), Some("group"), Some(true)) => Ok(How::Group(
            inputs["group_size"].as_u64().unwrap_or(128).max(1) as usize,
        )),
        _ => refuse(
            "config_groups.input_activations",
            "E4M3 by token, group or fixed for the tensor, INT8 by token, or none",
            inputs,
        ),
    }
}

/// `MODULE.input_scale`.
fn static_scale(checkpoint: &Checkpoint, module: &str) -> Result<How> {
    let name = format!("{module}.input_scale");
    let mut bytes = Vec::new();
    let tensor = checkpoint.tensor(&name);
    if let Some(tensor) = tensor {
        checkpoint.read_bytes(tensor, 0..tensor.bytes, &mut bytes)?;
    }
    let scale = match (tensor.map(|t| t.dtype), bytes.as_slice()) {
        (Some(Dtype::Bf16), &[a, b]) => Some(bf16::from_le_bytes([a, b]).to_f32()),
        (Some(Dtype::F16), &[a, b]) => Some(f16::from_le_bytes([a, b]).to_f32()),
        (Some(Dtype::F32), &[a, b, c, d]) => Some(f32::from_le_bytes([a, b, c, d])),
        _ => None,
    };
    match scale {
        Some(scale) if scale > 0.0 && scale.is_finite() => Ok(How::Static(scale)),
        found => Err(Error::ActivationScheme {
            file: checkpoint.dir().join(name),
            field: "input_scale",
            expected: "one positive number, BF16, F16 or F32",
            found: found.map_or_else(|| "none".to_owned(), |x| x.to_string()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_scale_saturates_and_a_tokens_own_does_not() {
        let tap = |how| Rounding {
            sites: vec![[how; 4]],
            widths: [4; 4],
        };
        let rows = [1.0, -0.3, 0.0, 0.01, 100.0, 7.3, -7.3, 0.0];
        let rounded = |how| {
            let mut x = rows;
            tap(how).input(0, Site::Down, &mut x);
            x
        };
        assert_eq!(rounded(How::Not), rows);
        let fixed = rounded(How::Static(1.0 / 64.0));
        assert_eq!((fixed[0], fixed[4]), (1.0, 7.0));
        let token = rounded(How::Token);
        assert_eq!((token[0], token[4], token[7]), (1.0, 100.0, 0.0));
        for (x, y) in rows.iter().zip(token) {
            assert!((x - y).abs() <= x.abs() / 16.0 + 1e-5, "{x} {y}");
        }
        let int8 = rounded(How::TokenInt8);
        assert_eq!((int8[0], int8[4]), (1.0, 100.0));
        assert!((int8[5] - 7.3).abs() <= 50.0 / 127.0);
        assert_eq!(rounded(How::Group(2))[6..], [-7.3, 0.0]);
    }
}
