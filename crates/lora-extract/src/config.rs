//! What an extraction is asked to do.

use xgraft_adapter_sanitize::{Policy, Rules};
use xgraft_checkpoint::Dtype;

use crate::error::{Error, Result};
use crate::rank::RankRule;

/// The largest rank that is ever looked for when a rule chooses it: the top of vLLM's ladder.
pub const MAX_RANK: usize = 512;

/// A validated extraction.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How ranks are chosen.
    pub rank: RankRule,
    /// The most that a rule other than [`RankRule::Fixed`] gives a module.
    pub max_rank: usize,
    /// Element type of the stored factors: BF16 (what engines compute in), F16 or F32.
    pub dtype: Dtype,
    /// Which tensors may be in the adapter.
    pub rules: Rules,
    /// Fail when more than this share of the update's energy is dropped.
    pub max_dropped: f64,
    /// Seed of the randomized factorization.
    pub seed: u64,
    /// The residual may be estimated to exceed the optimum's by this share before the factorization
    /// stops; `None` for the default of `low-rank`.
    pub tolerance: Option<f64>,
    /// What `base_model_name_or_path` says; the base directory's name if `None`.
    pub base_name: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rank: RankRule::Fixed(64),
            max_rank: MAX_RANK,
            dtype: Dtype::Bf16,
            rules: Rules {
                policy: Policy::Vllm,
                embeddings: false,
            },
            max_dropped: 0.5,
            seed: 0,
            tolerance: None,
            base_name: None,
        }
    }
}

impl Config {
    /// Rejects what makes no sense before any file is read.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], naming the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, expected, found: String| Error::InvalidConfig {
            field,
            expected,
            found,
        };
        match self.rank {
            RankRule::Fixed(0) => {
                return Err(bad("rank", "at least 1", "0".into()));
            }
            RankRule::Energy(share) if !(share > 0.0 && share <= 1.0) => {
                return Err(bad(
                    "energy",
                    "a share above 0 and at most 1",
                    share.to_string(),
                ));
            }
            _ => {}
        }
        if self.max_rank == 0 {
            return Err(bad("max-rank", "at least 1", "0".into()));
        }
        if !(0.0..=1.0).contains(&self.max_dropped) {
            return Err(bad(
                "max-dropped",
                "a share from 0 to 1",
                self.max_dropped.to_string(),
            ));
        }
        if !matches!(self.dtype, Dtype::Bf16 | Dtype::F16 | Dtype::F32) {
            return Err(bad("dtype", "bf16, f16 or f32", self.dtype.name().into()));
        }
        Ok(())
    }

    /// The most ranks that are computed for a module of this shape.
    pub(crate) fn cap(&self, out: usize, input: usize) -> usize {
        let asked = match self.rank {
            RankRule::Fixed(rank) => rank,
            _ => self.max_rank,
        };
        asked.min(out).min(input)
    }

    /// Everything that can be chosen, as the manifest records it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut all = self.fingerprint();
        all["max_dropped"] = self.max_dropped.into();
        all["base_name"] = self.base_name.clone().into();
        all
    }

    /// What governs the factors of a module: a changed value makes earlier work unusable.
    pub(crate) fn fingerprint(&self) -> serde_json::Value {
        serde_json::json!({
            "rank": match self.rank {
                RankRule::Fixed(rank) => serde_json::json!({"fixed": rank}),
                RankRule::Energy(share) => serde_json::json!({"energy": share}),
                RankRule::Noise => serde_json::json!("noise"),
                RankRule::Budget(bytes) => serde_json::json!({"budget_bytes": bytes}),
            },
            "max_rank": self.max_rank,
            "dtype": self.dtype.name(),
            "policy": self.rules.policy.name(),
            "embeddings": self.rules.embeddings,
            "seed": self.seed,
            "tolerance": self.tolerance,
        })
    }
}
