//! What is healthy, by role: the one table of limits.
//!
//! Without a reference the limits are generous, because trained models hold outlier channels, norms of tens and
//! kurtosis of hundreds, and a false alarm teaches people to ignore the next one. Against a reference they are strict:
//! FP8 with block scales has a relative error of 0.026, INT4 in groups of 128 one of 0.11.

use std::fmt;

use serde::Serialize;
use xgraft_checkpoint::{NormKind, Role};

use crate::error::{Error, Result};

/// Roles that share limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Weights of linear layers.
    Linear,
    /// Token embeddings.
    Embedding,
    /// The output projection.
    LmHead,
    /// Norms of the residual stream.
    Norm,
    /// Norms of query and key heads, which may be far from 1.
    HeadNorm,
    /// Biases; those of keys reach hundreds.
    Bias,
    /// Anything else.
    Other,
}

impl Group {
    /// Every group, in the order of the table.
    pub const ALL: [Group; 7] = [
        Group::Linear,
        Group::Embedding,
        Group::LmHead,
        Group::Norm,
        Group::HeadNorm,
        Group::Bias,
        Group::Other,
    ];

    /// The group of a role.
    #[must_use]
    pub fn of(role: Role) -> Group {
        match role {
            Role::Embedding => Group::Embedding,
            Role::LmHead => Group::LmHead,
            Role::Norm(NormKind::Query | NormKind::Key) => Group::HeadNorm,
            Role::Norm(_) => Group::Norm,
            Role::Bias => Group::Bias,
            role if role.is_linear() => Group::Linear,
            _ => Group::Other,
        }
    }

    /// Its name: `linear`, `lm_head`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Group::Linear => "linear",
            Group::Embedding => "embedding",
            Group::LmHead => "lm_head",
            Group::Norm => "norm",
            Group::HeadNorm => "head_norm",
            Group::Bias => "bias",
            Group::Other => "other",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The limits of one group. An infinite limit (or a zero lower one) is no limit, and stands as `null` (or 0) in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Exploded: RMS of the tensor or of a block above this.
    pub rms_max: f64,
    /// Flat: RMS of the tensor below this.
    pub rms_min: f64,
    /// Flat: share of blocks, or of rows, that are nothing but zeros above this.
    pub zero_max: f64,
    /// Biased: |mean|/RMS of the tensor above this.
    pub mean_max: f64,
    /// Biased: mean/RMS of a block this far from that of its neighbours in the same rows and columns.
    pub block_mean_max: f64,
    /// Mis-scaled: RMS of a block this many times above or below that of its neighbours.
    pub block_ratio_max: f64,
    /// Mis-scaled: median RMS of a whole row or column of blocks this many times above or below the tensor's.
    pub line_ratio_max: f64,
    /// Mis-scaled: RMS of the tensor this many times above or below that of its peers, the tensors of the same role in all layers,
    /// in the layers near it, and of roles with the same limits, whichever are nearest.
    pub peer_ratio_max: f64,
    /// Flat: share of zeros of a norm above this, where the norms of the model have few.
    pub zero_share_max: f64,
    /// Biased: mean/RMS of a norm below this, where the norms of the model lie above zero.
    pub mean_min: f64,
    /// Mis-scaled: |mean| of the tensor below this. A norm's mean is near 1 before training, and of trained models some norms of
    /// the first layers are at a hundredth.
    pub level_min: f64,
    /// Mis-scaled: |mean| of the tensor above this.
    pub level_max: f64,
    /// Mis-decoded: kurtosis of the tensor or of a block below this. Uniform numbers have 1.8, two heaps 1.
    pub kurtosis_min: f64,
    /// Mis-scaled: share of a block's codes at the largest value of their format above this.
    pub saturated_max: f64,
    /// With a reference. Mis-decoded: correlation of the tensor below this.
    pub correlation_min: f64,
    /// With a reference. Mis-decoded: correlation of a block below this.
    pub block_correlation_min: f64,
    /// With a reference. Mis-scaled: relative error of the tensor above this.
    pub error_max: f64,
    /// With a reference. Mis-scaled: relative error of a block above this.
    pub block_error_max: f64,
    /// With a reference. Mis-scaled: relative error of a block this many times that of the median block.
    pub block_error_ratio_max: f64,
    /// With a reference. Mis-scaled: a block is the reference times a factor this far from 1.
    pub gain_max: f64,
    /// With a reference. Biased: |mean − reference's mean|/RMS of a block above this.
    pub shift_max: f64,
}

/// No limit.
const NONE: f64 = f64::INFINITY;

const LINEAR: Limits = Limits {
    rms_max: 2.0,
    rms_min: 1e-6,
    zero_max: 0.0,
    mean_max: 0.4,
    block_mean_max: 0.3,
    block_ratio_max: 12.0,
    line_ratio_max: 100.0,
    peer_ratio_max: 30.0,
    zero_share_max: NONE,
    mean_min: -NONE,
    level_min: 0.0,
    level_max: NONE,
    kurtosis_min: 1.65,
    saturated_max: 0.05,
    correlation_min: 0.95,
    block_correlation_min: 0.9,
    error_max: 0.2,
    block_error_max: 0.3,
    block_error_ratio_max: 5.0,
    gain_max: 0.03,
    shift_max: 0.05,
};

/// Rows of tokens that were never seen may be zero or far smaller than the others, and rows share a direction.
const EMBEDDING: Limits = Limits {
    rms_max: 50.0,
    zero_max: 0.9,
    mean_max: 0.8,
    block_mean_max: 0.6,
    block_ratio_max: 100.0,
    line_ratio_max: 1e4,
    peer_ratio_max: NONE,
    ..LINEAR
};

/// A vector: no blocks to compare, and a mean that is far from zero.
const VECTOR: Limits = Limits {
    rms_max: 1e3,
    rms_min: 1e-9,
    zero_max: NONE,
    mean_max: NONE,
    block_mean_max: NONE,
    block_ratio_max: NONE,
    line_ratio_max: NONE,
    peer_ratio_max: NONE,
    zero_share_max: NONE,
    mean_min: -NONE,
    level_min: 0.0,
    level_max: NONE,
    kurtosis_min: 0.0,
    saturated_max: NONE,
    correlation_min: -NONE,
    block_correlation_min: -NONE,
    error_max: 0.2,
    block_error_max: 0.3,
    block_error_ratio_max: NONE,
    gain_max: 0.1,
    shift_max: 0.1,
};

/// Norms grow with depth, and the last one may be ten times as large as any other.
const NORM: Limits = Limits {
    rms_max: 100.0,
    peer_ratio_max: 30.0,
    zero_share_max: 0.2,
    mean_min: -0.3,
    level_min: 3e-3,
    level_max: 100.0,
    ..VECTOR
};

const HEAD_NORM: Limits = Limits {
    rms_max: 300.0,
    level_max: 300.0,
    ..NORM
};

/// A bias may be all zero.
const BIAS: Limits = Limits {
    rms_min: 0.0,
    ..VECTOR
};

const OTHER: Limits = Limits {
    rms_max: 1e6,
    rms_min: 0.0,
    ..VECTOR
};

/// The limits of every group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds([Limits; Group::ALL.len()]);

impl Default for Thresholds {
    fn default() -> Self {
        Self([LINEAR, EMBEDDING, EMBEDDING, NORM, HEAD_NORM, BIAS, OTHER])
    }
}

impl Thresholds {
    /// The limits of a group.
    #[must_use]
    pub fn of(&self, group: Group) -> &Limits {
        &self.0[group as usize]
    }

    /// Changes one limit by a text such as `linear.block_ratio_max=30`; the role `all` means every group,
    /// the value `inf` no limit.
    ///
    /// # Errors
    /// [`Error::Threshold`], with the part that is not understood.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let bad = |expected: &str, found: &str| Error::Threshold {
            text: text.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let (path, value) = text
            .split_once('=')
            .ok_or_else(|| bad("ROLE.FIELD=VALUE", "no `=`"))?;
        let (role, field) = path
            .split_once('.')
            .ok_or_else(|| bad("ROLE.FIELD=VALUE", "no `.`"))?;
        let number: f64 = match value.trim().parse() {
            Ok(number) if !f64::is_nan(number) => number,
            _ => return Err(bad("a number", value)),
        };
        let groups: Vec<Group> = Group::ALL
            .into_iter()
            .filter(|group| role == "all" || role == group.name())
            .collect();
        if groups.is_empty() {
            let names = Group::ALL.map(Group::name).join(", ");
            return Err(bad(&format!("a role of {names}, or all"), role));
        }
        for group in groups {
            let limits = &mut self.0[group as usize];
            let Some((_, limit)) = limits.fields().into_iter().find(|(name, _)| *name == field)
            else {
                let names = limits.fields().map(|(name, _)| name).join(", ");
                return Err(bad(&format!("a field of {names}"), field));
            };
            *limit = number;
        }
        Ok(())
    }

    /// Group → field → limit, as `report.json` and the manifest hold it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let of = |group: Group| (group.name().to_owned(), serde_json::json!(self.of(group)));
        serde_json::Value::Object(Group::ALL.into_iter().map(of).collect())
    }
}

impl Limits {
    fn fields(&mut self) -> [(&'static str, &mut f64); 21] {
        [
            ("rms_max", &mut self.rms_max),
            ("rms_min", &mut self.rms_min),
            ("zero_max", &mut self.zero_max),
            ("mean_max", &mut self.mean_max),
            ("block_mean_max", &mut self.block_mean_max),
            ("block_ratio_max", &mut self.block_ratio_max),
            ("line_ratio_max", &mut self.line_ratio_max),
            ("peer_ratio_max", &mut self.peer_ratio_max),
            ("zero_share_max", &mut self.zero_share_max),
            ("mean_min", &mut self.mean_min),
            ("level_min", &mut self.level_min),
            ("level_max", &mut self.level_max),
            ("kurtosis_min", &mut self.kurtosis_min),
            ("saturated_max", &mut self.saturated_max),
            ("correlation_min", &mut self.correlation_min),
            ("block_correlation_min", &mut self.block_correlation_min),
            ("error_max", &mut self.error_max),
            ("block_error_max", &mut self.block_error_max),
            ("block_error_ratio_max", &mut self.block_error_ratio_max),
            ("gain_max", &mut self.gain_max),
            ("shift_max", &mut self.shift_max),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_changed_for_one_group_or_all() {
        let mut thresholds = Thresholds::default();
        thresholds.set("linear.rms_max=7.5").unwrap();
        assert_eq!(thresholds.of(Group::Linear).rms_max, 7.5);
        assert_eq!(thresholds.of(Group::Norm).rms_max, NORM.rms_max);
        thresholds.set("all.gain_max=inf").unwrap();
        assert!(
            Group::ALL
                .iter()
                .all(|g| thresholds.of(*g).gain_max == NONE)
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let says = |text: &str, word: &str| {
            let error = Thresholds::default().set(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        says("linear.rms_max", "no `=`");
        says("rms_max=1", "no `.`");
        says("linar.rms_max=1", "head_norm");
        says("linear.std=1", "block_ratio_max");
        says("linear.rms_max=NaN", "a number");
    }

    #[test]
    fn every_field_of_the_json_can_be_set() {
        let json = Thresholds::default().to_json();
        let fields = json["linear"].as_object().unwrap();
        for field in fields.keys() {
            Thresholds::default()
                .set(&format!("linear.{field}=1"))
                .unwrap();
        }
        assert_eq!(fields.len(), 21);
    }
}
