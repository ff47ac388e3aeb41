//! Rotary position embedding, plain, as Llama 3 scales it, and YaRN.

use std::f64::consts::PI;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::spec::Fields;

/// The rotation of each pair of a head's elements: element `i` goes with element `i + head_dim / 2`.
///
/// Angles are formed as `transformers` forms them, f32 frequency times f32 position, because at position 40,000 that rounding
/// is as large as the angle's last digits.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Radians a position, for each pair.
    frequencies: Vec<f32>,
    /// The length of the rotated vectors: YaRN's attention factor, else 1.
    length: f32,
}

impl Rope {
    /// The embedding that `rope_parameters`, or `rope_scaling` and `rope_theta`, describe, and the positions that it is good
    /// for, where the configuration states `stated` of them.
    pub(crate) fn of(fields: &Fields<'_>, head_dim: usize, stated: usize) -> Result<(Rope, usize)> {
        let raw = fields.0.raw();
        let object = |name: &str| raw.get(name).filter(|v| !v.is_null());
        let (name, found) = match object("rope_parameters") {
            Some(found) => ("rope_parameters", Some(found)),
            None => ("rope_scaling", object("rope_scaling")),
        };
        let empty = Map::new();
        let map = match found {
            None => &empty,
            Some(Value::Object(map)) => map,
            Some(other) => return Err(fields.error(name, "an object", other)),
        };
        let part = Part { fields, name, map };
        let theta = match part.number("rope_theta")? {
            Some(theta) => theta,
            None => fields.f64("rope_theta")?.unwrap_or(10_000.0),
        };
        if part
            .number("partial_rotary_factor")?
            .is_some_and(|f| f != 1.0)
        {
            return Err(part.error("partial_rotary_factor", "1.0", "another"));
        }
        let plain = Rope {
            frequencies: plain(theta, head_dim),
            length: 1.0,
        };
        let kind = map.get("rope_type").or_else(|| map.get("type"));
        match kind.map(|kind| kind.as_str().unwrap_or_default()) {
            None | Some("default") => Ok((plain, stated)),
            Some("llama3") => Ok((part.llama3(&plain)?, stated)),
            Some("yarn") => part.yarn(theta, head_dim, stated),
            Some(_) => {
                let found = kind.map(Value::to_string).unwrap_or_default();
                Err(part.error("rope_type", "default, llama3 or yarn", &found))
            }
        }
    }

    /// Adds the cosines and sines of a position's angles, times the length, to `cos` and `sin`: `head_dim / 2` each.
    pub fn angles(&self, position: usize, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        for frequency in &self.frequencies {
            let angle = f64::from(frequency * position as f32);
            cos.push(angle.cos() as f32 * self.length);
            sin.push(angle.sin() as f32 * self.length);
        }
    }
}

/// `theta^(-2i / head_dim)`.
fn plain(theta: f64, head_dim: usize) -> Vec<f32> {
    let power = |i: usize| (2 * i) as f32 / head_dim as f32;
    (0..head_dim / 2)
        .map(|i| 1.0 / theta.powf(f64::from(power(i))) as f32)
        .collect()
}

/// The object that describes the scaling.
struct Part<'a> {
    fields: &'a Fields<'a>,
    name: &'a str,
    map: &'a Map<String, Value>,
}

impl Part<'_> {
    fn error(&self, field: &str, expected: &str, found: &str) -> crate::error::Error {
        let field = format!("{}.{field}", self.name);
        self.fields.error(&field, expected, found)
    }

    fn number(&self, field: &str) -> Result<Option<f64>> {
        let value = self.map.get(field).filter(|v| !v.is_null());
        let read = |v: &Value| v.as_f64().filter(|x| x.is_finite());
        value
            .map(|v| read(v).ok_or_else(|| self.error(field, "a number", &v.to_string())))
            .transpose()
    }

    fn positive(&self, field: &str) -> Result<f64> {
        let found = self.number(field)?;
        found.filter(|x| *x > 0.0).ok_or_else(|| {
            let found = found.map_or("nothing".to_owned(), |x| x.to_string());
            self.error(field, "a number above 0", &found)
        })
    }

    /// Long wavelengths are stretched, short ones kept, those between blended.
    ///
    /// **Source** Llama 3.1's `apply_scaling`; `transformers`, `modeling_rope_utils.py`, `_compute_llama3_parameters`.
    fn llama3(&self, plain: &Rope) -> Result<Rope> {
        let factor = self.positive("factor")?;
        let (low, high) = (
            self.positive("low_freq_factor")?,
            self.positive("high_freq_factor")?,
        );
        let original = self.positive("original_max_position_embeddings")?;
        if high <= low {
            return Err(self.error(
                "high_freq_factor",
                "more than low_freq_factor",
                &high.to_string(),
            ));
        }
        let scale = |frequency: &f32| {
            let f = f64::from(*frequency);
            let wavelength = 2.0 * PI / f;
            if wavelength < original / high {
                return *frequency;
            }
            if wavelength > original / low {
                return (f / factor) as f32;
            }
            let smooth = (original / wavelength - low) / (high - low);
            ((1.0 - smooth) * f / factor + smooth * f) as f32
        };
        Ok(Rope {
            frequencies: plain.frequencies.iter().map(scale).collect(),
            length: plain.length,
        })
    }

    /// **Source** Peng et al., "`YaRN`: Efficient Context Window Extension of Large Language Models", section 3;
    /// `transformers`, `_compute_yarn_parameters`.
    fn yarn(&self, theta: f64, head_dim: usize, stated: usize) -> Result<(Rope, usize)> {
        let original = match self.number("original_max_position_embeddings")? {
            Some(_) => self.positive("original_max_position_embeddings")?,
            None => stated as f64,
        };
        let factor = match self.number("factor")? {
            Some(_) => self.positive("factor")?,
            None => stated as f64 / original,
        };
        let truncate = match self.map.get("truncate") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(truncate)) => *truncate,
            Some(other) => return Err(self.error("truncate", "true or false", &other.to_string())),
        };
        let dim = head_dim as f64;
        // The pair that turns so many times over the original length.
        let pair = |turns: f64| dim * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let fast = self
            .number("beta_fast")?
            .filter(|b| *b != 0.0)
            .unwrap_or(32.0);
        let slow = self
            .number("beta_slow")?
            .filter(|b| *b != 0.0)
            .unwrap_or(1.0);
        let (mut low, mut high) = (pair(fast), pair(slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let frequency = |(i, kept): (usize, &f32)| {
            let stretch = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            let kept = f64::from(*kept);
            (kept / factor * stretch + kept * (1.0 - stretch)) as f32
        };
        let frequencies = plain(theta, head_dim)
            .iter()
            .enumerate()
            .map(frequency)
            .collect();
        let rope = Rope {
            frequencies,
            length: self.attention_factor(factor)? as f32,
        };
        Ok((rope, stated.max((original * factor) as usize)))
    }

    fn attention_factor(&self, factor: f64) -> Result<f64> {
        if let Some(given) = self.number("attention_factor")? {
            return Ok(given);
        }
        let grown = |scale: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * scale * factor.ln() + 1.0
            }
        };
        let both = (self.number("mscale")?, self.number("mscale_all_dim")?);
        Ok(match both {
            (Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => grown(scale) / grown(all),
            _ => grown(1.0),
        })
    }
}
