//! What a conversion is asked to do.

use serde_json::{Value, json};
use xgraft_block_scale::ScaleDtype;
use xgraft_checkpoint::{
    Checkpoint, DEFAULT_SHARD_BYTES, Identity as _, module_pattern, names_module,
};

use crate::error::{Error, Result};
use crate::scheme::{Layout, Method, Scheme};
use crate::search::Search;
use crate::simulated::simulated;

/// A conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The number format.
    pub scheme: Scheme,
    /// How the files name, pack and configure it.
    pub layout: Layout,
    /// Element type of the stored scales of layout `hf`: F32 or BF16. The other layouts have types of their own.
    pub scale: ScaleDtype,
    /// Elements of a group of integers, where the format leaves it open; `None` for the usual one.
    pub group: Option<usize>,
    /// Integers with one zero point for all rather than one for each group.
    pub symmetric: bool,
    /// How scales are chosen.
    pub search: Search,
    /// Whether input channels are scaled by AWQ before they are rounded; needs activation statistics.
    pub awq: bool,
    /// Modules that stay as they are, beside those that no engine quantizes: a name, a run of its components, or a regular
    /// expression after `re:`.
    pub keep: Vec<String>,
    /// The most bytes of tensors in one file.
    pub max_shard_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self::of(Scheme::Fp8Block)
    }
}

impl Config {
    /// A scheme in its usual layout.
    #[must_use]
    pub fn of(scheme: Scheme) -> Self {
        Self {
            scheme,
            layout: scheme.usual_layout(),
            scale: ScaleDtype::F32,
            group: None,
            symmetric: true,
            search: Search::Amax,
            awq: false,
            keep: Vec::new(),
            max_shard_bytes: DEFAULT_SHARD_BYTES,
        }
    }

    /// Rejects combinations that no reader knows.
    ///
    /// # Errors
    /// [`Error::Combination`], [`Error::ScaleDtype`], [`Error::Option`], [`Error::KeepPattern`].
    pub fn validate(&self) -> Result<()> {
        let known = match self.layout {
            Layout::Hf => matches!(self.scale, ScaleDtype::F32 | ScaleDtype::Bf16),
            _ => true,
        };
        if !known {
            return Err(Error::ScaleDtype {
                found: self.scale.to_string(),
            });
        }
        for pattern in &self.keep {
            module_pattern(pattern).map_err(|why| Error::KeepPattern {
                pattern: pattern.clone(),
                why,
            })?;
        }
        let refuse = |option, why| {
            Err(Error::Option {
                option,
                scheme: self.scheme.name(),
                why,
            })
        };
        if self.group.is_some() && self.scheme.usual_group().is_none() {
            return refuse("--group-size", "its groups are fixed");
        }
        if self.group == Some(0) {
            return Err(Error::EmptyGroup);
        }
        let integers = matches!(self.scheme, Scheme::Int4 | Scheme::Int3 | Scheme::Int2);
        if !self.symmetric && !integers {
            return refuse("asymmetric", "it has no zero points");
        }
        let stored = matches!(self.layout, Layout::CompressedTensors | Layout::Simulated);
        if self.awq && !(integers && stored) {
            return refuse(
                "--awq",
                "its channel scales are for integers in groups, in layout compressed-tensors or simulated",
            );
        }
        if self.awq && self.search == Search::Delta {
            return refuse("--awq with --search delta", "each has a measure of its own");
        }
        let one_scale = matches!(self.scheme, Scheme::Fp8Tensor | Scheme::Fp8TensorStatic);
        if self.search != Search::Amax && one_scale {
            return refuse(
                "search",
                "one scale for a whole weight leaves nothing to search by blocks",
            );
        }
        self.method().map(drop)
    }

    /// Whether activation statistics are needed.
    pub(crate) fn needs_stats(&self) -> bool {
        self.awq || self.scheme == Scheme::Fp8TensorStatic
    }

    pub(crate) fn method(&self) -> Result<Method> {
        Method::new(self)
    }

    pub(crate) fn group_size(&self) -> Option<usize> {
        self.group.or(self.scheme.usual_group())
    }

    pub(crate) fn keeps(&self, module: &str) -> bool {
        self.keep.iter().any(|entry| names_module(entry, module))
    }

    fn to_json(&self) -> Value {
        let mut json = json!({
            "scheme": self.scheme.name(),
            "layout": self.layout.name(),
            "scale_dtype": self.scale.to_string(),
            "group": self.group_size(),
            "symmetric": self.symmetric,
            "search": self.search.name(),
            "keep": self.keep,
            "max_shard_bytes": self.max_shard_bytes,
        });
        if self.awq {
            json["awq"] = json!(true);
        }
        json
    }
}

/// What makes earlier work of an interrupted run usable: the same verb, configuration and files.
#[must_use]
pub fn fingerprint(
    verb: &str,
    source: &Checkpoint,
    base: Option<&Checkpoint>,
    config: &Config,
) -> Value {
    // of a bridge, only the size of its shards is chosen
    let mut configuration = match verb {
        "dequantize" => json!({ "max_shard_bytes": config.max_shard_bytes }),
        _ => config.to_json(),
    };
    let before = simulated(source);
    if !before.is_empty() {
        configuration["simulated_source"] = json!(before);
    }
    json!({
        "verb": verb,
        "version": env!("CARGO_PKG_VERSION"),
        "config": configuration,
        "source": source.identity_json(),
        "base": base.map(xgraft_checkpoint::Identity::identity_json),
    })
}
