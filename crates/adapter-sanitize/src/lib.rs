//! Check and repair a LoRA adapter against the rules of a serving engine.
//!
//! [`Rules::check`] decides for one tensor whether an engine takes it, by its role and form: the
//! same pure function serves `xgraft extract`, which never computes what would be dropped, and
//! [`sanitize`], which repairs adapters made by others. Tensors are told apart by path components,
//! never by substrings: `q_norm` is a norm because the component says so, `normalizer` is not.
//!
//! What is dropped is booked in a [`Ledger`] with its share of the update's energy (squared
//! Frobenius norm), because "sanitized" without that number hides how much of a fine-tune was lost.
//! Bad content of an adapter is data: it ends in the ledger and in findings. Only an adapter that
//! contradicts itself, or loses more than the caller allows, is an error.
//!
//! ```
//! use xgraft_adapter_sanitize::{Form, Policy, Reason, Rules};
//! use xgraft_checkpoint::Role;
//!
//! let vllm = Rules { policy: Policy::Vllm, embeddings: false };
//! assert_eq!(vllm.check(Role::Down, Form::LowRank, None), Ok(()));
//! assert_eq!(vllm.check(Role::LmHead, Form::LowRank, Some(151_936)), Err(Reason::EmbeddingNotAsked));
//! assert_eq!(vllm.check(Role::Down, Form::Full, None), Err(Reason::FullRank));
//! ```

mod error;
mod ledger;
mod rules;
mod sanitize;
mod servable;

pub use error::{Error, Result};
pub use ledger::{Dropped, Ledger, WARN_SHARE};
pub use rules::{Form, Policy, Reason, Rules, VLLM_MAX_VOCAB, VLLM_RANKS, ladder_up};
pub use sanitize::{Config, KeptPair, Sanitized, plain_lora, sanitize};
pub use servable::servable_config;
