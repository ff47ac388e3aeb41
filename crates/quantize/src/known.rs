//! What is known of a checkpoint beside its weights, and whether it is known of this one.

use xgraft_checkpoint::{ActivationStats, Activations, Checkpoint, Weight};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::scheme::Scheme;

/// Fewer tokens say nothing of hundreds of channels.
const LEAST_TOKENS: u64 = 128;

/// What is known of a checkpoint beside its weights.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The checkpoint that it was fine-tuned from: the report says what is left of the delta.
    pub base: Option<&'a Checkpoint>,
    /// What goes into its linear layers: the report says what the outputs lose, and AWQ and fixed activation scales need it.
    pub stats: Option<&'a ActivationStats>,
}

impl<'a> Known<'a> {
    /// What went into a module.
    pub(crate) fn activations(&self, module: &str) -> Option<&'a Activations> {
        self.stats?.modules.get(module)
    }

    /// Refuses statistics that lack a weight that is quantized, have other channels, or saw too little.
    pub(crate) fn check<'w>(
        &self,
        config: &Config,
        mut taken: impl Iterator<Item = &'w Weight>,
    ) -> Result<()> {
        let Some(stats) = self.stats else {
            return match config.needs_stats() {
                false => Ok(()),
                true if config.awq => Err(Error::NeedsStats { what: "AWQ" }),
                true => Err(Error::NeedsStats {
                    what: "scheme fp8-tensor-static",
                }),
            };
        };
        let tokens = stats.observed.tokens;
        if tokens < LEAST_TOKENS {
            return Err(Error::Stats {
                entry: "tokens".to_owned(),
                expected: format!("at least {LEAST_TOKENS}"),
                found: tokens.to_string(),
            });
        }
        taken.try_for_each(|weight| fits(stats, weight, config))
    }

    /// Refuses a tensor that is not the one that was observed.
    pub(crate) fn check_digest(&self, tensor: &str, digest: &str) -> Result<()> {
        let Some(stats) = self.stats else {
            return Ok(());
        };
        match stats.observed.model.get(tensor) {
            Some(observed) if observed == digest => Ok(()),
            observed => Err(Error::Stats {
                entry: tensor.to_owned(),
                expected: format!("statistics of the tensor with BLAKE3 {digest}"),
                found: observed.map_or_else(|| "none of this tensor".to_owned(), Clone::clone),
            }),
        }
    }
}

fn fits(stats: &ActivationStats, weight: &Weight, config: &Config) -> Result<()> {
    let channels = weight.matrix_shape().1;
    let refuse = |expected: String, found: String| {
        Err(Error::Stats {
            entry: weight.module.clone(),
            expected,
            found,
        })
    };
    match stats.modules.get(&weight.module) {
        None => refuse(
            format!("its {channels} input channels"),
            "nothing".to_owned(),
        ),
        Some(seen) if seen.amax_channel.len() != channels => refuse(
            format!("{channels} input channels"),
            seen.amax_channel.len().to_string(),
        ),
        Some(seen) if config.scheme == Scheme::Fp8TensorStatic && seen.amax() == 0.0 => refuse(
            "an input that is not always zero".to_owned(),
            format!("zero in all of {} tokens", seen.tokens),
        ),
        Some(_) => Ok(()),
    }
}
