//! What is wrong with a checkpoint: its files and their layout ([`inspect`]), and the numbers in its tensors ([`autopsy`]).
//!
//! A wrong conversion rarely fails: it writes a model that loads and answers nonsense. [`autopsy`] reads every number once
//! and says of each tensor whether it is healthy, or exploded, flat, biased, mis-scaled, mis-decoded or not finite, in which
//! block, and what to do. With the checkpoint from which it was made as a reference it is strict; without one it is generous.
//!
//! The key decision: statistics are kept for each block of 128 × 128 numbers, not for the tensor. A fault in 1 % of the
//! blocks hardly moves the mean and the standard deviation of a tensor, and stands out against the neighbours of the
//! block. The alternative, mean and standard deviation of each tensor, cannot see even INT4 that is decoded with wrong
//! signs, whose mean is zero and whose standard deviation is of the right order.
//!
//! What is wrong with all blocks alike, the peers of a tensor show: the same one in other layers. Of a tensor without peers (the
//! embedding, the head, the norms of a model of one layer) only gross faults show without a reference.
//!
//! [`inspect`] reads headers only and accepts directories that nothing else opens, because it is for those.
//!
//! ```
//! use std::ops::ControlFlow;
//! use xgraft_autopsy::{Thresholds, Verdict, autopsy, inspect};
//! use xgraft_checkpoint::Checkpoint;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny-qwen3/base");
//! assert!(inspect(&base)?.findings.is_empty());
//!
//! let checkpoint = Checkpoint::open(&base)?;
//! let report = autopsy(&checkpoint, None, &Thresholds::default(), &|_| ControlFlow::Continue(()))?;
//! assert!(report.healthy);
//! assert!(report.tensors.iter().all(|t| t.verdict == Verdict::Healthy));
//! # Ok(())
//! # }
//! ```
//!
//! **Invariant:** nothing is written, and no number that is not finite stops the work.

mod alike;
mod arch;
mod autopsy;
mod beside;
mod error;
mod inspect;
mod judge;
mod moments;
mod numbers;
mod outliers;
mod peers;
mod report;
mod scan;
mod thresholds;
mod verdict;

pub use alike::name_pattern;
pub use autopsy::{Event, autopsy, inputs};
pub use error::{Error, Result};
pub use inspect::{Declared, Inspection, Layout, LayoutCount, TensorEntry, inspect};
pub use report::{Comparison, Report, RoleSummary, Stats, TensorReport};
pub use thresholds::{Group, Limits, Thresholds};
pub use verdict::{Fault, Verdict};
