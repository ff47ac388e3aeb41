//! Scored trajectories to a calibration set, and the set to activation statistics: what a quantizer is shown so that it knows
//! which activations matter.
//!
//! [`build`] reads the trajectories twice, one row at a time. The first pass keeps a few hundred bytes of every attempt that
//! may be taken; the second cleans, counts and writes those that were. In between stand the choices: [`quotas`] by task, near
//! duplicates ([`MinHash`]), and whether anything of the evaluation set is in it ([`Leaks`]).
//!
//! Three decisions differ from the published builder. An attempt is taken when its answer was *right*, not when nothing was
//! raised. A set that shares questions with the evaluation is refused, for 28 % of that benchmark were in its calibration
//! set. And roles stay, so that the samples look as the model sees them when it is served; the published markers and banners go.
//!
//! ```
//! use xgraft_calibration::{clean, turns};
//! use xgraft_dataset::Role;
//!
//! assert_eq!(clean("[12] ASSISTANT: yes\nDEBUG: x\n==========\nno"), "yes\n\nno");
//! let turns = turns("[1] USER:\nWhich?\n[2] ASSISTANT:\nBRCA1\n");
//! assert_eq!(turns[1].role, Role::Assistant);
//! ```
//!
//! [`observe`] then runs the set through the model and records what goes into every linear layer, for `xgraft quantize --stats`;
//! [`compare`] says on a set how far a quantized model's distributions are from the original's, with the inputs of its layers
//! rounded as an engine would ([`Rounding`]).
//!
//! Modules: `clean`, `minhash`, `leak`, `secrets` and `assigned`, `quota` (one decision each), `candidate` (first pass), `build` (both), `preview`;
//! `set` and `batch` (samples to rows), `observe`, `rounding`, `compare`.
//!
//! **Invariant:** memory does not grow with the file; what is taken depends on the rows and the seed, not on their order; no
//! statistic depends on batches or threads.

mod assigned;
mod batch;
mod build;
mod candidate;
mod clean;
mod compare;
mod error;
mod leak;
mod minhash;
mod observe;
mod preview;
mod quota;
mod report;
mod rounding;
mod secrets;
mod set;

pub use build::{Config, build};
pub use clean::{clean, turns};
pub use compare::{Candidate, Divergence, OfSample, Positions, compare};
pub use error::{Error, Result};
pub use leak::Leaks;
pub use minhash::MinHash;
pub use observe::{Collector, Observation, observe};
pub use preview::preview;
pub use quota::{Share, quotas};
pub use report::{Histogram, Provenance, Report, Sample, Tokens};
pub use rounding::Rounding;
pub use secrets::secret;
pub use set::{SAMPLES, Tokenized, TokenizedSet};
