//! Asks an OpenAI-compatible endpoint the questions of a benchmark, and scores what comes back.
//!
//! Modules: [`task`] (how a question is put and what an answer is worth).
//!
//! **Invariant:** it knows only HTTP: it has structs of its own for requests and answers, so that a mistake on the wire cannot
//! hide on both sides.

pub mod task;
