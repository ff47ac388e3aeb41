//! Model and LoRA adapter directories in and out.
//!
//! [`Checkpoint`] opens a model directory as it comes from the hub: `config.json`, one safetensors file or shards with an
//! index, BF16, F16, F32 or FP8 weights. [`Adapter`] does the same for a PEFT adapter.
//! [`OutputDir`] with [`CheckpointWriter`] or [`AdapterWriter`] writes them: streamed, resumable, there all at once.
//!
//! Number formats stop here. A quantized linear is one [`Weight`], whatever the number of tensors that store it, and
//! [`WeightMatrix`] gives out f32 rectangles of it; no crate above this one knows the name `weight_scale_inv`.
//!
//! The key decision is to read headers only and then plain ranges (`pread`) in chunks of [`CHUNK_BYTES`], hashed on the
//! way. A memory map was the alternative: it makes the resident size follow the shard, and a failing disk raises a signal
//! instead of an error. Reading whole shards was the other: memory would follow the shard by design.
//! Headers are parsed here and not by the `safetensors` crate, because a wrong one must be refused with the file, the tensor,
//! what was expected and what was found; that crate writes the files against which ours are tested.
//!
//! Architecture invariants: nothing is believed before it is checked against the file's length; no pickle is ever opened;
//! a finished output directory holds no trace of how it was made.
//!
//! ```
//! use serde_json::json;
//! use xgraft_checkpoint::{Checkpoint, CheckpointWriter, DEFAULT_SHARD_BYTES, Dtype, OutputDir, PlannedTensor, Role, ShardPlan};
//!
//! let temp = tempfile::tempdir()?;
//! let out = OutputDir::create(&temp.path().join("model"), false, &json!({"example": 1}))?;
//! out.write_atomic("config.json", br#"{"model_type": "qwen3"}"#)?;
//!
//! let name = "model.layers.0.self_attn.q_proj.weight";
//! let plan = ShardPlan::new(vec![PlannedTensor::new(name, Dtype::Bf16, [2, 3])], DEFAULT_SHARD_BYTES)?;
//! let writer = CheckpointWriter::create(&out, plan)?;
//! let mut tensor = writer.tensor(name)?;
//! tensor.write_f32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! tensor.finish()?;
//! writer.finish()?;
//! out.commit()?;
//!
//! let checkpoint = Checkpoint::open(temp.path().join("model"))?;
//! let weight = &checkpoint.weights()[0];
//! assert_eq!((weight.module.as_str(), weight.role), ("model.layers.0.self_attn.q_proj", Role::Q));
//! let (matrix, digest) = checkpoint.load(weight)?;
//! assert_eq!(matrix.to_f32(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
//! assert_eq!(digest.to_hex().len(), 64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activations;
mod adapter;
mod digest;
mod error;
mod format;
mod identity;
mod json;
mod model;
mod pattern;
mod read;
mod rewrite;
mod strips;
mod sys;
mod write;

pub use activations::{ActivationStats, Activations, Observed};
pub use adapter::config::{AdapterConfig, Resolver, TargetModules};
pub use adapter::names::{AdapterPart, peft_name};
pub use adapter::open::{Adapter, AdapterTensor, LoraKind, LoraModule};
pub use adapter::write::{AdapterWriter, planned_pair};
pub use digest::Digest;
pub use error::{Error, Result};
pub use format::dtype::Dtype;
pub use format::header::{Header, HeaderTensor, MAX_HEADER_BYTES};
pub use format::index::{MAX_INDEX_BYTES, ShardIndex};
pub use identity::Identity;
pub use model::config::ModelConfig;
pub use model::fold::{module_pattern, names_module};
pub use model::packing::{Grouped, GroupedParts, PackedShapes, Packing, StoredGroups};
pub use model::quantization::{Fp8Layout, Quantization};
pub use model::role::{NormKind, Role};
pub use model::weight::{Stored, TensorInfo, Weight};
pub use read::checkpoint::Checkpoint;
pub use read::grouped::unpack_grouped;
pub use read::inventory::Inventory;
pub use read::mapped::{Mapped, MappedWeight, Window};
pub use read::matrix::WeightMatrix;
pub use read::packed::PackedMatrix;
pub use read::store::ShardIdentity;
pub use read::stream::CHUNK_BYTES;
pub use rewrite::{Convert, Fate, Load, Rewrite, RewriteEvent, Rewritten, Sink, rewrite};
pub use strips::pack_strips;
pub use write::atomic::write_atomic;
pub use write::file::TensorWriter;
pub use write::grouped::pack_grouped;
pub use write::output::OutputDir;
pub use write::plan::{DEFAULT_SHARD_BYTES, PlannedTensor, ShardPlan};
pub use write::side_files::copy_side_files;
pub use write::writer::CheckpointWriter;
