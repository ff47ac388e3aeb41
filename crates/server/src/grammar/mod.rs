//! Structured outputs: what the text of an answer must be, as a constraint on its tokens.
//!
//! The grammars are `llguidance`'s, over the vocabulary of our own tokenizer.

mod constraint;
mod format;
mod tools;
mod vocabulary;

pub(crate) use constraint::Thinking;
pub(crate) use format::Form;
pub(crate) use tools::{Tool, ToolCalls};
pub(crate) use vocabulary::{Compiled, Grammars};
