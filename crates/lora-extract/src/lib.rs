//! The difference of two checkpoints as a servable LoRA adapter, and the independent check of one.
//!
//! [`extract`] pairs the tensors of a base and a tuned checkpoint, factorizes
//! ΔW = W_tuned − W_base of every linear layer by truncated SVD, chooses ranks by a [`RankRule`], and
//! writes a PEFT adapter with A = √S·Vᵀ [r, in] and B = U·√S [out, r], alpha = r.
//! [`verify`] recomputes from the files, with a product of its own, what base + adapter is.
//!
//! The key decision: one pair of matrices in memory at a time, never materialising ΔW, and every
//! module's factors on disk as soon as they are known. So a 32B model needs the memory of its
//! largest layer, and a stopped run goes on where it was. The alternative, one pass over a loaded
//! model, is simpler and needs 131 GB.
//!
//! With a quantized base the same code is Method B: the delta then holds the base's rounding, and
//! the adapter corrects what its rank can hold of it.
//!
//! ```
//! use std::ops::ControlFlow;
//! use xgraft_checkpoint::{Adapter, Checkpoint, OutputDir};
//! use xgraft_lora_extract::{Config, RankRule, VerifyConfig, extract, fingerprint, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny-qwen3");
//! let base = Checkpoint::open(&fixtures.join("base"))?;
//! let tuned = Checkpoint::open(&fixtures.join("tuned"))?;
//! let config = Config { rank: RankRule::Fixed(8), ..Config::default() };
//!
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("adapter");
//! let out = OutputDir::create(&path, false, &fingerprint(&base, &tuned, &config))?;
//! let done = extract(&base, &tuned, &config, &out, &|_| ControlFlow::Continue(()))?;
//! out.commit()?;
//! assert_eq!(done.report.totals.max_rank, 8);
//!
//! let adapter = Adapter::open(&path)?;
//! let (check, _) = verify(&base, &tuned, None, &adapter, &VerifyConfig::default(), &|_| ControlFlow::Continue(()))?;
//! assert!(check.passed);
//! # Ok(())
//! # }
//! ```

mod adapter;
mod config;
mod delta;
mod error;
mod extract;
mod factors;
mod noise;
mod plan;
mod rank;
mod report;
mod stream;
mod verify;

pub use config::{Config, MAX_RANK};
pub use delta::Delta;
pub use error::{Error, Result};
pub use extract::{Event, Extraction, extract, fingerprint};
pub use noise::{noise_edge, rounding_noise};
pub use plan::{Action, Pair, Plan, plan};
pub use rank::{RankRule, Spectrum, rank_for_energy, snap, spread_budget};
pub use report::{ModuleReport, Report, Stated, Totals};
pub use verify::{
    AgainstOriginal, Direction, JudgedBy, ModuleCheck, Optimum, Verdict, Verification,
    VerifyConfig, VerifyEvent, verify,
};
