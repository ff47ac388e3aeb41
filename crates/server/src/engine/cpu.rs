//! The model of this process as a [`Forward`].

use std::path::Path;
use std::sync::Arc;

use xgraft_model::{KvCache, KvType, LoraAdapter, Model, Spec};

use super::{AdapterLoader, Capacity, ConfigError, Forward, ForwardError, Segment};

/// A [`Model`] on the CPU with its pool of keys and values.
#[derive(Debug)]
pub struct CpuForward {
    model: Model,
    cache: KvCache,
}

impl CpuForward {
    /// Positions of a block of keys and values.
    pub const BLOCK_TOKENS: usize = 16;

    /// A model with a pool of as many blocks as `memory` bytes hold.
    ///
    /// # Errors
    /// They hold none, or the machine does not give so many.
    pub fn new(model: Model, kind: KvType, memory: usize) -> Result<Self, ConfigError> {
        let block = model.spec().kv_bytes(kind.bytes()) * Self::BLOCK_TOKENS;
        if memory < block {
            return Err(ConfigError::TooSmall {
                field: "bytes of memory for keys and values",
                found: memory,
                least: block,
            });
        }
        if !can_be_had(memory) {
            return Err(ConfigError::Memory { bytes: memory });
        }
        let cache = KvCache::new(model.spec(), kind, memory / block, Self::BLOCK_TOKENS);
        Ok(Self { model, cache })
    }
}

/// Whether the system promises so much memory; what it promises is not taken yet.
fn can_be_had(bytes: usize) -> bool {
    let mut memory = Vec::<u8>::new();
    let promised = memory.try_reserve_exact(bytes).is_ok();
    // Without it, the compiler may leave out what nobody uses, and with it the question.
    std::hint::black_box(&mut memory);
    promised
}

impl Forward for CpuForward {
    type Adapter = LoraAdapter;
    type Loader = CpuLoader;

    fn capacity(&self) -> Capacity {
        Capacity {
            vocab_size: self.model.spec().vocab,
            max_positions: self.model.spec().max_positions,
            block_tokens: self.cache.block_tokens(),
            blocks: self.cache.blocks(),
        }
    }

    fn loader(&self) -> CpuLoader {
        CpuLoader {
            spec: Arc::clone(self.model.spec()),
        }
    }

    fn run(
        &mut self,
        batch: &[Segment<'_, LoraAdapter>],
        logits: &mut Vec<f32>,
    ) -> Result<(), ForwardError> {
        let segments: Vec<xgraft_model::Segment<'_>> = batch
            .iter()
            .map(|segment| xgraft_model::Segment {
                tokens: segment.tokens,
                first_position: segment.first_position,
                blocks: segment.blocks,
                adapter: segment.adapter,
                logits: segment.logits,
            })
            .collect();
        self.model.forward(&mut self.cache, &segments, logits);
        Ok(())
    }
}

/// Reads adapters for a model of one shape.
#[derive(Debug, Clone)]
pub struct CpuLoader {
    spec: Arc<Spec>,
}

impl AdapterLoader for CpuLoader {
    type Adapter = LoraAdapter;

    fn load(&self, dir: &Path) -> Result<(LoraAdapter, usize), ForwardError> {
        let adapter = LoraAdapter::open(dir, &self.spec).map_err(|error| with_causes(&error))?;
        let rank = adapter.rank();
        Ok((adapter, rank))
    }
}

fn with_causes(error: &dyn std::error::Error) -> ForwardError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    ForwardError(text)
}

#[cfg(test)]
mod tests {
    use super::can_be_had;

    #[test]
    fn memory_that_no_machine_has_is_not_promised() {
        assert!(can_be_had(1 << 20));
        assert!(!can_be_had(usize::MAX / 4));
        assert!(!can_be_had(usize::MAX));
    }
}
