//! From token ids to token ids: what HTTP asks for, and what a model must give.
//!
//! [`LocalEngine`] is an [`Engine`] over any [`Forward`]. Requests come in on the callers' threads through a gate that
//! counts those that wait; one compute thread owns the model and the scheduler, and nothing else touches either.
//! [`double`] is a `Forward` without a model, for tests of all that stands on an engine.
//!
//! Architecture invariants: the compute thread takes no lock that is held while something is computed or read;
//! an adapter version never changes; a token depends on its request, adapter version and position alone.

mod adapters;
mod blocks;
mod config;
mod cpu;
pub mod double;
mod forward;
mod gate;
mod local;
mod request;
mod scheduler;
mod sequence;
#[cfg(test)]
mod tests;

pub use config::{ConfigError, EngineConfig};
pub use cpu::{CpuForward, CpuLoader};
pub use forward::{AdapterLoader, Capacity, Forward, ForwardError, Segment};
pub use local::LocalEngine;
pub use request::{
    AdapterCard, AdapterError, Constraint, Engine, Event, Finish, FinishReason, Generation,
    Logprobs, ModelCard, Refused, Request, Sampling, Stats, TokenEvent, TopLogprobs, Usage,
};

/// The number of a token in the model's vocabulary.
pub type TokenId = u32;
