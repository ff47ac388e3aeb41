//! Token ids to logits: Qwen3 and Llama on the CPU.
//!
//! [`Model`] computes on weights as a checkpoint stores them (F32, BF16, F16, FP8, INT8, four-bit codes), mapped from
//! their files. [`KvCache`] is a pool of blocks of keys and values that the caller hands out to sequences, and
//! [`LoraAdapter`] one immutable version of an adapter; a batch of [`Segment`]s may mix any of them.
//!
//! The key decision is that a token's logits depend on the tokens before it and its adapter, to the bit, and on nothing else:
//! not on the batch, nor on how a prompt is cut, nor on the number of threads. Every sum has one order
//! ([`xgraft_matmul`]), so a preempted sequence that is computed again goes on as if nothing had happened.
//! Activations are f32 throughout; only weights are quantized, and perhaps the cache ([`KvType::Bf16`]).
//!
//! One decoder reads its shape from `config.json` ([`Spec`]); the alternative, a file per family, repeats the same layer.
//! What the decoder does not know is refused by name.
//!
//! Architecture invariants: no text, no sampling, no clock; a weight is never expanded in memory.

mod attention;
mod decoder;
mod error;
mod kv;
mod lora;
mod math;
mod projection;
mod rope;
mod spec;
mod tap;
mod weights;

pub use decoder::{Model, Options, Segment};
pub use error::{Error, Result};
pub use kv::{KvCache, KvType};
pub use lora::LoraAdapter;
pub use rope::Rope;
pub use spec::{Family, Spec};
pub use tap::{Site, Tap};
