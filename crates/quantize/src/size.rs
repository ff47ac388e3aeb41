//! What a checkpoint weighs in a format, and what its serving takes, from headers alone.

use xgraft_checkpoint::{Checkpoint, Dtype};

use crate::config::Config;
use crate::error::Result;
use crate::quantize::planned_of;

/// Bytes of the tensors that [`quantize`](crate::quantize()) would write, to the byte; headers and side files not counted.
///
/// # Errors
/// As [`quantize`](crate::quantize()) before it reads a weight.
pub fn stored_bytes(source: &Checkpoint, config: &Config) -> Result<u64> {
    let mut bytes = 0;
    for (weight, planned) in planned_of(source, config)? {
        bytes += match planned {
            Some(tensors) => tensors.iter().map(|t| size(t.dtype, &t.shape)).sum::<u64>(),
            None => source.stored_tensors(weight)?.iter().map(|t| t.bytes).sum(),
        };
    }
    Ok(bytes)
}

fn size(dtype: Dtype, shape: &[usize]) -> u64 {
    shape.iter().map(|n| *n as u64).product::<u64>() * dtype.bytes() as u64
}

/// Bytes of a LoRA adapter of this rank on every linear layer, `rank × Σ(out + in)` elements; the rank is clamped to each
/// layer's.
pub fn adapter_bytes(source: &Checkpoint, rank: usize, element: Dtype) -> u64 {
    let linears = source.weights().iter().filter(|w| w.role.is_linear());
    let elements = linears.map(|w| {
        let (out, inner) = w.matrix_shape();
        (rank.min(out).min(inner) * (out + inner)) as u64
    });
    elements.sum::<u64>() * element.bytes() as u64
}

/// Bytes of keys and values of one token, `2 × layers × kv heads × head size` elements; nothing if `config.json` does not
/// say enough.
pub fn cache_bytes_per_token(source: &Checkpoint, element: Dtype) -> Option<u64> {
    let config = source.config();
    let heads = config.num_attention_heads?;
    let kv_heads = config.num_key_value_heads.unwrap_or(heads);
    let head = match config.head_dim {
        Some(head) => head,
        None => config.hidden_size? / heads.max(1),
    };
    let layers = config.num_hidden_layers?;
    Some((2 * layers * kv_heads * head * element.bytes()) as u64)
}
