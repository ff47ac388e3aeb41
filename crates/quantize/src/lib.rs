//! A whole checkpoint into a quantized format and back, streaming.
//!
//! [`quantize`] turns the linear layers of a float checkpoint into FP8 or integer codes with scales; embeddings, the head
//! and norms stay as they are. [`dequantize`] makes the BF16 checkpoint that a quantized one stands for (the bridge model
//! that other tools need), from every layout that `checkpoint` reads.
//!
//! Key decision: the schemes and layouts are values ([`Scheme`], [`Layout`]), and what is done with one
//! weight is a pure function of it; reading, sharding, journalling and resuming are
//! `checkpoint`'s. So memory is that of the largest matrix, whatever the shards.
//!
//! Layout `hf` is what Qwen and `DeepSeek` publish; `compressed-tensors` is what llm-compressor writes, equal to it byte for
//! byte for BF16 weights. A format that no engine reads is simulated: its values are stored in BF16, and `config.json` says so ([`simulated`]).
//! Everything here rounds to nearest, perhaps with searched scales ([`Search`]). With activation statistics ([`Known`]) the input
//! channels of integers may be scaled first, as AWQ does, and FP8 may have fixed scales for its inputs; only such files say so.
//!
//! ```
//! use xgraft_checkpoint::{Checkpoint, OutputDir};
//! use xgraft_quantize::{Config, Known, fingerprint, quantize};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny-qwen3/base");
//! let source = Checkpoint::open(&base)?;
//! let config = Config::default(); // FP8, 128x128 blocks, layout hf
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("fp8");
//! let out = OutputDir::create(&path, false, &fingerprint("quantize", &source, None, &config))?;
//! let done = quantize(&source, Known::default(), &config, &out, &|_| Ok(()))?;
//! out.commit()?;
//! assert!(Checkpoint::open(&path)?.weight("model.layers.0.mlp.up_proj").unwrap().is_quantized());
//! assert!(done.report.relative_error.is_some_and(|error| error < 0.03));
//! # Ok(())
//! # }
//! ```

mod awq;
mod config;
mod convert;
mod dequantize;
mod error;
mod known;
mod one;
mod quantize;
mod report;
mod scheme;
mod search;
mod simulated;
mod size;
mod unfold;

pub use awq::Scaled;
pub use config::{Config, fingerprint};
pub use dequantize::dequantize;
pub use error::{Error, Result};
pub use known::Known;
pub use quantize::quantize;
pub use report::{Conversion, Loss, ModuleReport, OutputError, Report};
pub use scheme::{Layout, Scheme};
pub use search::{DeltaSums, Search};
pub use simulated::simulated;
pub use size::{adapter_bytes, cache_bytes_per_token, stored_bytes};
