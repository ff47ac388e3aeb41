//! Fold a LoRA adapter into a checkpoint of any stored format.
//!
//! W' = W + s·B·A in f32, stored in the format of W. A quantized weight is dequantized, added to,
//! and quantized again with new scales. Adding to raw codes, which several tools do in silence, is
//! not possible here: codes never leave their matrix undecoded.
//!
//! Use it where one model is served alone: an adapter beside the base costs time at each token, a
//! merged model does not. Into an FP8 base the merge rounds base + delta once more, so it is not
//! the same as serving the adapter; [`Report`] says what the rounding costs, module by module.
//!
//! ```
//! use xgraft_checkpoint::{Adapter, Checkpoint, OutputDir};
//! use xgraft_lora_merge::{Config, fingerprint, merge};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
//! let base = Checkpoint::open(&fixtures.join("tiny-qwen3/base"))?;
//! let adapter = Adapter::open(&fixtures.join("golden/peft-plain"))?;
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("merged");
//! let config = Config::default();
//! let out = OutputDir::create(&path, false, &fingerprint(&base, &adapter, &config))?;
//! let merged = merge(&base, &adapter, &config, &out, &|_| Ok(()))?;
//! out.commit()?;
//! assert_eq!(merged.report.modules.len(), 21);
//! # Ok(())
//! # }
//! ```

mod error;
mod merge;
mod pair;
mod report;

pub use error::{Error, Result};
pub use merge::{Config, Merged, fingerprint, merge};
pub use report::{ModuleReport, Report};
