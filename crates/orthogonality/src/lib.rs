//! How the rounding noise of a quantized model lies to a LoRA adapter, and two adapters to each other.
//!
//! The noise of a layer is N = dequantized − original, with this sign everywhere; the adapter's update is L = s·B·A.
//! [`compare`] gives for every linear layer their cosine, their sizes beside each other and beside the weight, the share of N in
//! the column and the row space of L, the spectra, the signal-to-noise ratio inside the adapter's subspace, the cosine of every two
//! noises, and the principal angles between two adapters.
//!
//! **What it does not show.** Two independent matrices of m × n elements have a cosine near 1/√(mn), 0.0001 for a large layer. A
//! small cosine is therefore what anything unrelated has, and no sign that the adapter is unharmed. So every quantity stands beside
//! what chance gives for it, and beside controls: a random matrix, the adapter with its input columns shuffled, the adapter's update
//! of another layer.
//!
//! The key decision: N is never formed. It is a source that subtracts while it is packed, so all quantities come from three passes
//! and a few products with thin panels; L is never formed either, its thin SVD comes from its factors. One layer is in memory at a
//! time. The alternative, dense matrices, would cost an SVD a layer.
//!
//! Products with panels are in f32 in one fixed order; everything that is summed over them, and every norm and inner product of two
//! matrices, is in f64. A cosine is thereby right to about 1e-4 of its chance level.
//!
//! ```
//! use std::ops::ControlFlow;
//! use xgraft_checkpoint::{Adapter, Checkpoint};
//! use xgraft_orthogonality::{Noise, compare};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
//! // The fine-tune stands for a quantized copy of its base.
//! let noise = Noise {
//!     label: "tuned".into(),
//!     original: Checkpoint::open(fixtures.join("tiny-qwen3/base"))?,
//!     quantized: Checkpoint::open(fixtures.join("tiny-qwen3/tuned"))?,
//! };
//! let adapter = Adapter::open(fixtures.join("golden/peft-plain"))?;
//! let (report, _) = compare(&[noise], &adapter, None, 0, &|_| ControlFlow::Continue(()))?;
//! for module in &report.modules {
//!     let n = &module.noises[0];
//!     println!("{}: cosine {:+.1e}, chance {:.1e}", module.module, n.cosine.value, n.cosine.chance);
//!     assert!(n.random.z.abs() < 4.0);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Invariant:** nothing is written here, and no number depends on the count of threads.

mod compare;
mod error;
mod findings;
mod measures;
mod noise;
mod overlap;
mod plan;
mod random;
mod report;
mod rows;
mod sides;
mod summary;
mod update;
mod words;

pub use compare::{Event, compare};
pub use error::{Error, Result};
pub use measures::{Angles, Cosine, Leakage};
pub use noise::Noise;
pub use report::{ModuleReport, NoisePair, NoiseReport, OtherLayer, Overlap, Report, UpdateReport};
pub use summary::{Cosines, NoiseSummary, OverlapSummary, PairSummary, Summary};
