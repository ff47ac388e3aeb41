//! Asks an OpenAI-compatible endpoint the questions of a benchmark, and scores what comes back.
//!
//! Modules: [`task`] (how a question is put and what an answer is worth), [`client`] (one exchange with an endpoint); of
//! finished runs [`attempts`] (what the log of events has), [`annotate`] and [`review`] (what an answer is worth beyond its
//! form), and [`stats`] (what the counts of several arms say).
//!
//! **Invariant:** it knows only HTTP: it has structs of its own for requests and answers, so that a mistake on the wire cannot
//! hide on both sides.

pub mod annotate;
pub mod attempts;
pub mod client;
pub mod review;
pub mod stats;
pub mod task;
