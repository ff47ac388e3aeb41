//! The wire: what a request may say, and the form of every answer.

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod error;
pub(crate) mod fields;
mod json;
pub(crate) mod logprobs;
pub(crate) mod neutral;
pub(crate) mod openapi;
pub(crate) mod parameters;
pub(crate) mod stream;
