//! From token ids to token ids: what HTTP asks for, and what a model must give.

mod forward;
mod request;

pub use forward::{AdapterLoader, Capacity, Forward, ForwardError, Segment};
pub use request::{
    AdapterCard, AdapterError, Constraint, Engine, Event, Finish, FinishReason, Generation,
    Logprobs, ModelCard, Refused, Request, Sampling, Stats, TokenEvent, TopLogprobs, Usage,
};

/// The number of a token in the model's vocabulary.
pub type TokenId = u32;
